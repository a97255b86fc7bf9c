"""A Markdown file's tables and figures, brought up to date."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridrun.commands._figures import figures_of, read_formats, worth_drawing
from gridrun.commands._grids import GridOptions
from gridrun.errors import GridrunError

if TYPE_CHECKING:
    from gridrun.figures.model import Figure
    from gridrun.tables.readme import Request


def update_readme(path: Path, check: bool) -> None:
    """Bring what stands between a file's markers up to date, or only say whether it is."""
    from gridrun.tables.readme import rewrite
    from trainer import files

    figures: dict[Path, Figure] = {}
    old, line_end = _read(path)
    new = rewrite(old, lambda request: _rendered(path.parent, request, figures))
    stale = _stale(figures)
    if old == new and not stale:
        click.echo(f"{path}: up to date", err=True)
        return
    differing = [*([path] if old != new else []), *stale]
    if check:
        for one in differing:
            click.echo(
                f"{one}: differs from the stored results; run `gridrun table --readme {path}`", err=True
            )
        raise SystemExit(1)
    _draw(stale)
    if old != new:
        files.write_text(path, new.replace("\n", line_end))
    for one in differing:
        click.echo(f"{one}: rewritten", err=True)


def _read(path: Path) -> tuple[str, str]:
    """Return a file's text with plain line ends, and the ends that it has. Raises GridrunError."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise GridrunError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise GridrunError(f"{path}: is not UTF-8 text") from None
    return text.replace("\r\n", "\n"), "\r\n" if "\r\n" in text else "\n"


def _rendered(home: Path, request: Request, figures: dict[Path, Figure]) -> str:
    """Return what stands below a marker; collect the figures that it shows, by file."""
    from gridrun.store import Store
    from gridrun.tables import render
    from gridrun.tables.build import tables_of

    grids = GridOptions(paths=[home / grid for grid in request.grids], profile=request.profile).read()
    store = Store(home / request.results)
    if not store.root.is_dir():  # else a typing error would empty the tables
        raise GridrunError(f"{request.results}: no such results directory, seen from {home}/")
    if request.command == "table":
        return "\n\n".join(render.to_markdown(table).rstrip() for table in tables_of(grids, store))
    form, *more = read_formats(request.form)
    if more:
        raise GridrunError(f"--format {request.form}: a marker shows its figures in one format")
    shown = {
        request.out / f"{figure.id}.{form}": figure
        for figure in worth_drawing(figures_of(grids, store), request.results)
    }
    figures.update({home / path: figure for path, figure in shown.items()})
    return "\n\n".join(f"![{_escaped(figure.title)}]({path.as_posix()})" for path, figure in shown.items())


def _escaped(text: str) -> str:
    return re.sub(r"[\\\[\]]", r"\\\g<0>", text)


def _stale(figures: dict[Path, Figure]) -> dict[Path, Figure]:
    """Return the figures that their files do not show."""
    if not figures:
        return {}
    from gridrun.figures.draw import digest_in

    return {path: figure for path, figure in figures.items() if digest_in(path) != figure.digest}


def _draw(figures: dict[Path, Figure]) -> None:
    if figures:
        from gridrun.figures.draw import save

        for path, figure in figures.items():
            save(figure, path)
