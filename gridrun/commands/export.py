"""`gridrun export`."""

from __future__ import annotations

from pathlib import Path

import click

from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import GridOptions, grid_options, results_option
from gridrun.commands._out_file import OutFile
from gridrun.commands._show import format_counts
from gridrun.text import number_of


@click.command("export", cls=GroupedCommand, example="gridrun export grids/quickstart.yaml -o quickstart.zip")
@grid_options(required=True)
@results_option
@click.option(
    "-o",
    "--out",
    metavar="FILE.zip",
    required=True,
    type=OutFile(".zip"),
    help="File to write; one that is there is replaced.",
)
@click.option(
    "--anonymous",
    is_flag=True,
    help="Leave out the names of users and machines, and tracebacks. Notes and error messages stay.",
)
def command(grids: GridOptions, results: Path, out: Path, anonymous: bool) -> None:
    """Write grids and their results to one file.

    The file is a zip archive that another lab checks with `gridrun verify`. It has the grid files and all
    that they include, the record and the curve of each ended trial, users' notes, the tables, and versions of
    packages. It has no weights.

    Prints the SHA-256 of the file. Publish it: with it, others see that they have your file.
    """
    from gridrun.archive.export import export
    from gridrun.store import Store
    from gridrun.sweep import provenance

    store = Store(results)
    made = export(
        out,
        grids.read(store),
        grids.row_options(),
        store,
        commit=provenance.of_code().commit,
        anonymous=anonymous,
    )
    counts = {"ended": made.trials, "missing": made.missing}
    files, tables = number_of(made.files, "grid file"), number_of(made.tables, "table")
    click.echo(f"{out}: {files}, {tables}, trials: {format_counts(counts)}")
    click.echo(f"SHA-256 {made.sha256}")
