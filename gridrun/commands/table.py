"""`gridrun table`."""

from __future__ import annotations

from pathlib import Path

import click

from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import GridOptions, grid_options, results_option, was_given
from gridrun.commands._show import show_tables, warn_if_missing
from gridrun.commands._table import TableOptions, table_options


@click.command("table", cls=GroupedCommand, example="gridrun table grids/quickstart.yaml --format latex")
@grid_options()
@results_option
@table_options()
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "md", "json", "csv", "latex"]),
    help="How to print them. [default: text on a terminal, else md]",
)
@click.option("--wide", is_flag=True, help="Do not wrap headers to the width of the terminal.")
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
    options: TableOptions,
    output_format: str | None,
    wide: bool,
    readme: Path | None,
    check: bool,
) -> None:
    """Print the tables of the named grids, or of all grids under grids/."""
    from gridrun.store import Store

    if readme:
        if grids or options or was_given("results", "output_format", "wide"):
            raise click.UsageError("--readme takes grids and options from the markers of the file")
        from gridrun.commands import plot
        from gridrun.commands._markers import update_readme

        update_readme(readme, check, {"table": command, "plot": plot.command})
        return
    if check:
        raise click.UsageError("--check goes with --readme")
    store = Store(results)
    loaded = grids.read(store)
    warn_if_missing(store)
    for grid in loaded:
        if grid.search:
            hint = f"`gridrun status {grid.path}` shows how far it is"
            click.echo(f"{grid.path}: a search has no table; {hint}", err=True)
    show_tables(options.tables_of(loaded, store), output_format, wide)
