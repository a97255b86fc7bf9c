"""Markers in Markdown files: each is a command, and says what stands below it."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from gridrun.commands._options import GridOptions
from gridrun.commands._show import stale_figures
from gridrun.commands._table import TableOptions
from gridrun.errors import GridrunError
from gridrun.text import printable

if TYPE_CHECKING:
    from gridrun.figures.model import Drawable

OptionsT = TypeVar("OptionsT", GridOptions, TableOptions)

_USAGE = {
    "table": "GRID... --results DIR [OPTIONS]",
    "plot": "GRID... --results DIR --out DIR [OPTIONS]",
}
_NEEDED = {"table": ("paths", "results"), "plot": ("paths", "results", "out")}
_NOT_HERE = {"table": ("readme", "check", "output_format", "wide"), "plot": ("check",)}
"""Parameters that have no meaning in a marker."""


def update_readme(path: Path, check: bool, commands: dict[str, click.Command]) -> None:
    """Rewrite what is between a file's markers; with `check`, only exit with 1 if it is out of date.

    `commands` are those that markers name: `table` and `plot`.
    """
    from gridrun.tables.readme import rewrite
    from trainer import files

    figures: dict[Path, Drawable] = {}

    def render(name: str, words: Sequence[str]) -> str:
        return _render(path.parent, name, _parameters(commands[name], name, words), figures)

    old, line_end = _read(path)
    new = rewrite(path, old, render)
    stale = stale_figures(figures) if figures else {}
    differing = [*([path] if old != new else []), *stale]
    if not differing:
        click.echo(f"{path}: up to date", err=True)
    elif check:
        hint = f"differs from the stored results; run `gridrun table --readme {path}`"
        for file in differing:
            click.echo(f"{file}: {hint}", err=True)
        names = (f"{path} as it is", f"{path} from the results")
        for line in difflib.unified_diff(old.splitlines(), new.splitlines(), *names, n=0, lineterm=""):
            click.echo(printable(line))
        raise SystemExit(1)
    if stale:
        from gridrun.figures.draw import save

        for file, figure in stale.items():
            save(figure, file)
    if old != new:
        try:
            files.rewrite(path, new.replace("\n", line_end))
        except OSError as error:
            raise GridrunError(f"{path}: cannot be written ({error.strerror})") from None
    for file in differing:
        click.echo(f"{file}: rewritten", err=True)


def _read(path: Path) -> tuple[str, str]:
    """Return a file's text with `\n` as line ends, and its own line ends."""
    if not path.is_file():  # a FIFO would never end
        raise GridrunError(f"{path}: is not a regular file")
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise GridrunError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise GridrunError(f"{path}: is not UTF-8 text") from None
    return text.replace("\r\n", "\n"), "\r\n" if "\r\n" in text else "\n"


def _parameters(command: click.Command, name: str, words: Sequence[str]) -> dict[str, Any]:
    """Return what a marker's words give its command. Raises GridrunError: they are not valid."""
    try:
        context = command.make_context(name, list(words))
    except click.exceptions.Exit:  # --help
        raise GridrunError(f"a marker must read {_USAGE[name]}") from None
    except click.UsageError as error:
        raise GridrunError(f"a marker must read {_USAGE[name]}: {error.format_message()}") from None
    given = [
        key for key in context.params if context.get_parameter_source(key) is ParameterSource.COMMANDLINE
    ]
    wrong = [key for key in given if key in _NOT_HERE[name]]
    if wrong or not all(key in given for key in _NEEDED[name]):
        raise GridrunError(f"a marker must read {_USAGE[name]}, got {' '.join(words)!r}")
    return context.params


def _options(cls: type[OptionsT], parameters: dict[str, Any]) -> OptionsT:
    names = [field.name for field in dataclasses.fields(cls)]
    return cls(**{name: parameters[name] for name in names if name in parameters})


def _render(home: Path, name: str, parameters: dict[str, Any], figures: dict[Path, Drawable]) -> str:
    """Return the Markdown below a marker, and add the figures that it shows to `figures`, by file."""
    from gridrun.commands.plot import given_options
    from gridrun.figures.select import figures_of, read_formats
    from gridrun.store import Store
    from gridrun.tables import render

    options = _options(GridOptions, parameters)
    store = Store(home / parameters["results"])
    grids = dataclasses.replace(options, paths=[home / grid for grid in options.paths]).read(store)
    if not store.root.is_dir():  # a typing error there must not empty the tables
        raise GridrunError(f"{parameters['results']}: no such results directory, seen from {home}/")
    if name == "table":
        tables = _options(TableOptions, parameters).tables_of(grids, store)
        return "\n\n".join(render.to_markdown(table).rstrip() for table in tables)
    suffix, *more = read_formats(parameters["formats"])
    if more:
        raise GridrunError(f"--format {parameters['formats']}: a marker shows its figures in one format")
    warn = functools.partial(click.echo, err=True)
    shown = {
        parameters["out"] / f"{figure.id}.{suffix}": figure
        for figure in figures_of(grids, store, warn, given_options(parameters), parameters["figure"])
    }
    figures.update({home / path: figure for path, figure in shown.items()})
    titles = {path: render.escape(figure.title) for path, figure in shown.items()}
    return "\n\n".join(f"![{title}]({path.as_posix()})" for path, title in titles.items())
