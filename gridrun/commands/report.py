"""`gridrun report`."""

from __future__ import annotations

from pathlib import Path

import click

from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import GridOptions, grid_options, results_option
from gridrun.commands._show import warn_if_missing
from gridrun.errors import GridrunError


@click.command("report", cls=GroupedCommand, example="gridrun report grids/quickstart.yaml -o report.html")
@grid_options()
@results_option
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The HTML file to write. [default: report.html]",
)
def command(grids: GridOptions, results: Path, out: Path | None) -> None:
    """Write one HTML page to look at a sweep.

    It shows tables, curves, timeline, failures and searches.

    It shows the named grids, or every grids/*.yaml. The file needs no network and no server.

    Example: gridrun report grids/quickstart.yaml -o report.html
    """
    from gridrun.report.data import make_report
    from gridrun.report.page import to_html
    from gridrun.store import Store
    from trainer import files

    loaded, store = grids.read(), Store(results)
    warn_if_missing(store)
    page = to_html(make_report(loaded, store, results=results, grid_options=grids.arguments))
    place = out or Path("report.html")
    try:
        if place.exists() and not place.is_file():  # a pipe or a device is written to, never replaced
            place.write_text(page, encoding="utf-8")
        else:
            files.write_text(place, page)
    except OSError as error:
        raise GridrunError(f"{place}: cannot be written ({error.strerror or error})") from None
    click.echo(f"{place}: {len(page.encode()) / 1e6:.1f} MB")
