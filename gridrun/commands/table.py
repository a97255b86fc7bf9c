"""`gridrun table`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from gridrun.commands._options import GridOptions, grid_options, results_option
from gridrun.commands._readme import update_readme
from gridrun.commands._show import show_tables, warn_if_missing

if TYPE_CHECKING:
    from gridrun.grid.table_specs import Spread


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
    type=click.Choice(["minmax", "std", "none"]),
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
    spread: Spread | Literal["none"] | None,
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
        tables = [replace(table, spread=None if spread == "none" else spread) for table in tables]
    show_tables(tables, output_format)
