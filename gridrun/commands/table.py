"""`gridrun table`."""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from gridrun.commands._options import GridOptions, grid_options, results_option
from gridrun.commands._show import show_tables, stale_figures, warn_if_missing
from gridrun.errors import GridrunError
from gridrun.text import printable

if TYPE_CHECKING:
    from gridrun.figures.model import Drawable
    from gridrun.grid.table_specs import Spread
    from gridrun.tables.model import Table
    from gridrun.tables.readme import Request


SPREADS = ("minmax", "std", "none")


@click.command("table")
@grid_options()
@results_option
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "md", "json", "csv", "latex"]),
    help="[default: text on a terminal, else md]",
)
@click.option(
    "--spread",
    type=click.Choice(SPREADS),
    help="Show the lowest and highest run, or the standard deviation, beside each median. "
    "[default: what each table says, else none]",
)
@click.option(
    "--readme",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Update the tables and figures between the markers of this Markdown file instead.",
)
@click.option(
    "--check", is_flag=True, help="With --readme: change nothing; exit 1 if the file is out of date."
)
def command(
    grids: GridOptions,
    results: Path,
    output_format: str | None,
    spread: str | None,
    readme: Path | None,
    check: bool,
) -> None:
    """Print the tables of the named grids, or of every grids/*.yaml."""
    from gridrun.store import Store
    from gridrun.tables.build import tables_of

    if readme:
        if grids:
            reason = "--readme takes grids and profiles from the file's markers; leave out GRID and --profile"
            raise click.UsageError(reason)
        if spread:
            raise click.UsageError(
                "--spread does not go with --readme; set `spread` of the table in its grid"
            )
        update_readme(readme, check)
        return
    if check:
        raise click.UsageError("--check goes with --readme")
    loaded, store = grids.read(), Store(results)
    warn_if_missing(store)
    tables = tables_of(loaded, store)
    if spread:
        tables = [_with_spread(table, spread) for table in tables]
    show_tables(tables, output_format)


def update_readme(path: Path, check: bool) -> None:
    """Rewrite what is between a file's markers; with `check`, only exit with 1 if it is out of date."""
    from gridrun.tables.readme import rewrite
    from trainer import files

    figures: dict[Path, Drawable] = {}
    old, line_end = _read(path)
    new = rewrite(path, old, lambda request: _render(path.parent, request, figures))
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
        files.write_text(path, new.replace("\n", line_end))
    for file in differing:
        click.echo(f"{file}: rewritten", err=True)


def _read(path: Path) -> tuple[str, str]:
    """Return a file's text with `\n` as line ends, and its own line ends."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise GridrunError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise GridrunError(f"{path}: is not UTF-8 text") from None
    return text.replace("\r\n", "\n"), "\r\n" if "\r\n" in text else "\n"


def _chosen(tables: list[Table], request: Request) -> list[Table]:
    """Return the tables that a marker asks for, with the spread that it asks for."""
    from trainer.registry import did_you_mean

    if request.table is not None:
        ids = [table.id for table in tables]
        if request.table not in ids:
            raise GridrunError(f"--table {request.table}: no such table.{did_you_mean(request.table, ids)}")
        tables = [table for table in tables if table.id == request.table]
    if request.spread is None:
        return tables
    if request.spread not in SPREADS:
        raise GridrunError(f"--spread {request.spread}: choose from {', '.join(SPREADS)}")
    return [_with_spread(table, request.spread) for table in tables]


def _with_spread(table: Table, spread: str) -> Table:
    return replace(table, spread=None if spread == "none" else cast("Spread", spread))


def _render(home: Path, request: Request, figures: dict[Path, Drawable]) -> str:
    """Return the Markdown below a marker, and add the figures that it shows to `figures`, by file."""
    from gridrun.figures.select import figures_of, read_formats
    from gridrun.store import Store
    from gridrun.tables import render
    from gridrun.tables.build import tables_of

    grids = GridOptions(paths=[home / grid for grid in request.grids], profile=request.profile).read()
    store = Store(home / request.results)
    if not store.root.is_dir():  # a typing error there must not empty the tables
        raise GridrunError(f"{request.results}: no such results directory, seen from {home}/")
    if request.command == "table":
        tables = _chosen(tables_of(grids, store), request)
        return "\n\n".join(render.to_markdown(table).rstrip() for table in tables)
    suffix, *more = read_formats(request.format)
    if more:
        raise GridrunError(f"--format {request.format}: a marker shows its figures in one format")
    shown = {
        request.out / f"{figure.id}.{suffix}": figure
        for figure in figures_of(grids, store, functools.partial(click.echo, err=True))
    }
    figures.update({home / path: figure for path, figure in shown.items()})
    titles = {path: re.sub(r"[\\\[\]]", r"\\\g<0>", figure.title) for path, figure in shown.items()}
    return "\n\n".join(f"![{title}]({path.as_posix()})" for path, title in titles.items())
