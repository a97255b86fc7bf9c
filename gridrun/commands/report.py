"""`gridrun report`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import GridOptions, grid_options, results_option
from gridrun.commands._out_file import OutFile
from gridrun.commands._search import progress_of
from gridrun.commands._show import warn_if_missing
from gridrun.errors import GridrunError, LaunchError

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.report.data import Report
    from gridrun.store import Store


@click.command("report", cls=GroupedCommand, example="gridrun report grids/quickstart.yaml -o report.html")
@grid_options()
@results_option
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    type=OutFile(".html", ".htm"),
    help="The HTML file to write. [default: report.html]",
)
@click.option(
    "--serve",
    is_flag=True,
    help="Write no file, but show the page of a running sweep, to this machine alone, until Ctrl-C.",
)
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    help="With --serve: the port to listen on. [default: any that is free]",
)
def command(grids: GridOptions, results: Path, out: Path | None, serve: bool, port: int | None) -> None:
    """Write one HTML page to look at a sweep.

    It shows tables, curves, timeline, failures and searches of the named grids, or of all grids under grids/.
    The file needs no network and no server. With --serve, the page follows a sweep while it runs; the
    address that is printed has a token, so keep it to yourself.
    """
    from gridrun.report.data import make_report
    from gridrun.store import Store

    if serve and out:
        raise click.UsageError("--serve writes no file; leave out -o")
    if port is not None and not serve:
        raise click.UsageError("--port goes with --serve")
    store = Store(results)
    loaded = grids.load()
    warn_if_missing(store)

    def make() -> Report:
        current = list(_current(loaded, store))
        return make_report(loaded, store, results=results, grid_options=grids.arguments, current=current)

    if serve:
        _serve(make, store, port or 0)
    else:
        _write(make(), out or Path("report.html"))


def _current(grids: Sequence[Grid], store: Store) -> Iterator[Grid]:
    """Yield what each search trains now; nothing of one that cannot go on."""
    for grid in grids:
        with contextlib.suppress(LaunchError):
            yield from (progress.grid for progress in progress_of([grid], store))


def _write(report: Report, place: Path) -> None:
    from gridrun.report import page
    from trainer import files

    text = page.to_html(report)
    try:
        files.write_text(place, text)
    except OSError as error:
        raise GridrunError(f"{place}: cannot be written ({error.strerror or error})") from None
    click.echo(f"{place}: {len(text.encode()) / 1e6:.1f} MB")


def _serve(make: Callable[[], Report], store: Store, port: int) -> None:
    from gridrun.report.serve import HOST, LiveReport, Server

    live = LiveReport(make, store.version)
    try:
        server = Server(live, port)
    except OSError as error:
        raise GridrunError(f"--port {port}: cannot listen on {HOST} ({error.strerror or error})") from None
    with server, contextlib.suppress(KeyboardInterrupt):
        click.echo(server.address)
        click.echo("Open this address in a browser on this machine. Ctrl-C ends it.", err=True)
        server.serve_forever()
