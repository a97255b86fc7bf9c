"""`gridrun table`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from gridrun.commands._grids import GridOptions, grid_options
from gridrun.commands._options import results_option
from gridrun.commands._readme import update_readme
from gridrun.commands._show import say_if_missing, show_tables

if TYPE_CHECKING:
    from gridrun.grid.table_specs import Spread


@click.command("table")
@grid_options()
@results_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "md", "json", "csv", "latex"]),
    help="[default: text on a terminal, else md]",
)
@click.option(
    "--spread",
    type=click.Choice(["minmax", "std", "none"]),
    help="What cells show beside their median: lowest and highest run, or the standard deviation. "
    "[default: what each table says, else none]",
)
@click.option(
    "--readme",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Renew the tables and figures between the markers of a Markdown file instead.",
)
@click.option("--check", is_flag=True, help="With --readme: change nothing, exit 1 where the file differs.")
def command(
    grids: GridOptions,
    results: Path,
    form: str | None,
    spread: Spread | Literal["none"] | None,
    readme: Path | None,
    check: bool,
) -> None:
    """Print the tables of some grids, or of every grids/*.yaml."""
    from gridrun.store import Store
    from gridrun.tables.build import tables_of

    if readme:
        if grids:
            raise click.UsageError("with --readme, the file's markers name the grids and their profile")
        if spread:
            raise click.UsageError("with --readme, `spread` of a table in its grid says it")
        update_readme(readme, check)
        return
    if check:
        raise click.UsageError("--check goes with --readme")
    wanted, store = grids.read(), Store(results)
    say_if_missing(store)
    tables = tables_of(wanted, store)
    if spread:
        tables = [replace(table, spread=None if spread == "none" else spread) for table in tables]
    show_tables(tables, form)
