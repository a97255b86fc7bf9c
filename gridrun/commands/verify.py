"""`gridrun verify`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridrun.commands import _options, _sweep_options
from gridrun.commands._help import GroupedCommand
from gridrun.commands._sweep_options import SweepOptions
from gridrun.text import format_time, number_of, printable

if TYPE_CHECKING:
    from gridrun.archive.verify import Archive, Compared
    from gridrun.grid import Row

MAX_DIFFERENCES = 10


@click.command("verify", cls=GroupedCommand, example="gridrun verify quickstart.zip --retrain 1")
@click.argument("file", metavar="FILE.zip", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--retrain", metavar="N", type=click.IntRange(min=1), help="Train N rows, picked at random, again."
)
@_sweep_options.sweep_options(
    _options.data_option,
    _sweep_options.threads_option,
    click.option("--gpus", type=click.IntRange(min=0), help="0 trains on the CPU. [default: a GPU if any]"),
    click.option(
        "--executor",
        type=click.Choice(["ray", "serial"]),
        default="serial",
        help="With --retrain: train in this process, or on Ray.",
    ),
)
def command(file: Path, retrain: int | None, options: SweepOptions) -> None:
    """Check a file of `gridrun export`.

    Checks that each file in it is as it was exported, that each record has the id of its config and seed, and
    that the records give the tables. Exits with 1 if the tables do not follow from the records.

    This shows that nothing was changed by accident, and not that anybody has measured these numbers. For
    that, --retrain trains rows again. On the same CPU with the same code and versions, the numbers must be
    equal. Elsewhere, the difference of the medians must be within what runs of such rows differ (99.9 %).
    Exits with 1 if a row does not agree. Nothing is kept of these trials.
    """
    from gridrun.archive.container import sha256
    from gridrun.archive.verify import differences, open_archive

    with tempfile.TemporaryDirectory(prefix="gridrun-") as directory:
        archive = open_archive(file, Path(directory))
        click.echo(f"{file}: SHA-256 {sha256(file.read_bytes())}")
        for line in _about(archive):
            click.echo(line)
        is_right = not (found := differences(archive))
        what = number_of(len(archive.tables), "table")
        click.echo(f"{'ok   ' if is_right else 'WRONG'} {what}, made again from the records")
        for line in found[:MAX_DIFFERENCES]:
            click.echo(f"      {line}")
        if len(found) > MAX_DIFFERENCES:
            click.echo(f"      ... and {len(found) - MAX_DIFFERENCES} more")
        if retrain:
            is_right &= _retrain(archive, retrain, options, Path(directory) / "results")
    if not is_right:
        raise SystemExit(1)


def _about(archive: Archive) -> Iterator[str]:
    about = archive.about
    commit = str(about.get("commit") or "unknown")[:12]
    when = str(about.get("made_at"))[:16].replace("T", " ")
    yield printable(f"      made {when} by gridrun {about.get('gridrun_version')}, commit {commit}")
    for grid in archive.grids:
        yield printable(f"      {grid.title}: {number_of(len(grid.rows), 'row')}")
    yield f"ok    {number_of(len(about['files']), 'file')}, each as it was exported"
    missing = f"; of {archive.missing} there is none" if archive.missing else ""
    others = f"; {archive.others} are of no row" if archive.others else ""
    records = number_of(len(archive.records), "trial")
    yield f"ok    {records}, each with the id of its config and seed{missing}{others}"


def _retrain(archive: Archive, count: int, options: SweepOptions, results: Path) -> bool:
    """Train rows again and show how they compare. Return whether none differs."""
    from gridrun.archive.export import store_of
    from gridrun.archive.verify import chosen_rows, compared
    from gridrun.commands._views import run_sweep
    from gridrun.grid import grid_of
    from gridrun.store import Store
    from gridrun.tables.judge import pools_of

    rows = chosen_rows(archive, count)
    wanted = {record.trial_id for row in rows for record in archive.done(row)}
    trials = [trial for row in rows for trial in row.trials if trial.trial_id in wanted]
    spent = sum(record.train_seconds or 0 for row in rows for record in archive.done(row))
    what = f"{number_of(len(rows), 'row')}, {number_of(len(trials), 'trial')}"
    click.echo(f"training {what} again; they took {format_time(spent)}", err=True)
    grid, store = grid_of(trials), Store(results)
    resolved = options.resolve([grid])
    summary = run_sweep([grid], store, resolved, options.make_executor(resolved.gpus_per_trial))
    if summary.interrupted:
        raise SystemExit(130)
    again = {record.trial_id: record for record in store.whole_records(wanted)}
    before = store_of(results.with_name("before"), list(archive.records.values()))
    pools, is_right = pools_of(before), True
    for row in rows:
        found = compared(row.config, archive.done(row), again, pools(row.config, "test_error"))
        click.echo(_line(row, found))
        is_right &= found.outcome != "differs"
    return is_right


def _line(row: Row, found: Compared) -> str:
    from gridrun.grid.describe import describe_config

    mark = {"differs": "WRONG", "open": "?    "}.get(found.outcome, "ok   ")
    return f"{mark} trained again: {printable(row.name or describe_config(row.config))}: {found.text}"
