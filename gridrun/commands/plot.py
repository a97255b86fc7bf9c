"""`gridrun plot`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import Directory, GridOptions, grid_options, results_option
from gridrun.commands._show import stale_figures


@click.command("plot", cls=GroupedCommand, example="gridrun plot grids/quickstart.yaml --kind curves")
@grid_options()
@results_option
@click.option("--out", metavar="DIR", default="figures", type=Directory(), help="Directory for the files.")
@click.option("--format", "formats", metavar="FORMAT,...", default="png", help="Any of png, svg and pdf.")
@click.option(
    "--kind",
    type=click.Choice(["line", "curves", "bars", "spread"]),
    help="Draw one figure of this kind over all rows, instead of the grid's own figures. spread: how much "
    "each row varies from seed to seed, beside what all rows share.",
)
@click.option("--x", metavar="KEY", help="The same, with this option on the x axis.")
@click.option("--y", metavar="METRIC,...", help="The same, of these metrics. [default: test_error]")
@click.option("--by", metavar="KEY,...", help="The same, with a series for each value of these options.")
@click.option("--panels", metavar="KEY,...", help="The same, with a panel for each value of these options.")
@click.option("--log-x/--linear-x", default=None, help="The same, with this scale of the x axis.")
@click.option("--log-y/--linear-y", default=None, help="The same, with this scale of the y axis.")
@click.option("--figure", metavar="ID", help="Draw only the figure with this id, of those of the grid.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a file is out of date.")
def command(
    grids: GridOptions,
    results: Path,
    out: Path,
    formats: str,
    check: bool,
    figure: str | None,
    **options: Any,
) -> None:
    """Draw the figures of the named grids, or of all grids under grids/.

    A grid's figures are those under `plots`; without any, each table becomes a figure.
    """
    from gridrun.figures.select import figures_of, read_formats
    from gridrun.store import Store

    chosen_formats = read_formats(formats)
    warn = functools.partial(click.echo, err=True)
    store = Store(results)
    figures = figures_of(grids.read(store), store, warn, given_options(options), figure)
    paths = {out / f"{one.id}.{name}": one for one in figures for name in chosen_formats}
    if not check:
        from gridrun.figures.draw import save

        for path, one in paths.items():
            save(one, path)
            click.echo(path)
        return
    stale = stale_figures(paths)
    for path in paths:
        state = "differs from the stored results" if path in stale else "up to date"
        click.echo(f"{path}: {state}", err=True)
    if stale:
        raise SystemExit(1)


def given_options(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the user says of the one figure to draw, as a grid file would have it."""
    names = ("kind", "x", "y", "by", "panels", "log_x", "log_y")
    return {name: _listed(parameters[name]) for name in names if parameters.get(name) is not None}


def _listed(value: Any) -> Any:
    """Return `a,b` as a list, as a grid file would have it."""
    return value.split(",") if isinstance(value, str) and "," in value else value
