"""`gridrun plot`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridrun.commands._figures import figures_of, read_formats, worth_drawing
from gridrun.commands._options import Directory, GridOptions, grid_options, results_option, seeds_option

if TYPE_CHECKING:
    from gridrun.figures.model import Figure


@click.command("plot")
@grid_options(seeds_option)
@results_option
@click.option(
    "--out",
    metavar="DIR",
    default="figures",
    show_default=True,
    type=Directory(),
    help="Where the files go.",
)
@click.option(
    "--format",
    "formats",
    metavar="FORMAT,...",
    default="png",
    show_default=True,
    help="Any of png, svg and pdf.",
)
@click.option(
    "--kind",
    type=click.Choice(["line", "curves", "bars"]),
    help="Draw one such figure of all rows, instead of the grid's own.",
)
@click.option("--x", metavar="KEY", help="Likewise: the option along the axis.")
@click.option("--y", metavar="METRIC,...", help="Likewise: what is shown; test_error if left out.")
@click.option("--by", metavar="KEY,...", help="Likewise: options by which series differ.")
@click.option("--panels", metavar="KEY,...", help="Likewise: options by which panels differ.")
@click.option("--log-x/--linear-x", default=None, help="Likewise: how x is spaced.")
@click.option("--log-y/--linear-y", default=None, help="Likewise: how y is spaced.")
@click.option(
    "--where", metavar="KEY=VALUE", multiple=True, help="Show only rows with this option; [A, B] means any."
)
@click.option("--check", is_flag=True, help="Write nothing, exit 1 where a file shows other data.")
def command(
    grids: GridOptions,
    results: Path,
    out: Path,
    formats: str,
    where: tuple[str, ...],
    check: bool,
    **options: Any,
) -> None:
    """Draw the figures of some grids, or of every grids/*.yaml.

    A grid's figures are those under its `plots`, else one for each table.
    """
    from gridrun.store import Store

    forms = read_formats(formats)
    asked = {key: listed(value) for key, value in options.items() if value is not None}
    wanted = grids.read()
    figures = worth_drawing(figures_of(wanted, Store(results), asked, where), results)
    paths = {out / f"{figure.id}.{form}": figure for figure in figures for form in forms}
    (compare if check else draw)(paths)


def listed(value: Any) -> Any:
    """Return `a,b` as a list, as a grid file would have it."""
    return value.split(",") if isinstance(value, str) and "," in value else value


def draw(paths: dict[Path, Figure]) -> None:
    """Write figures, and say where."""
    from gridrun.figures.draw import save

    for path, figure in paths.items():
        save(figure, path)
        click.echo(path)


def compare(paths: dict[Path, Figure]) -> None:
    """Say which files do not show what is stored, and exit 1 if any."""
    from gridrun.figures.draw import digest_in

    stale = [path for path, figure in paths.items() if digest_in(path) != figure.digest]
    for path in paths:
        click.echo(
            f"{path}: {'differs from the stored results' if path in stale else 'up to date'}", err=True
        )
    if stale:
        raise SystemExit(1)
