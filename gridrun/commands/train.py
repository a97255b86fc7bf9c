"""`gridrun train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridrun.commands._options import (
    checkpoint_seconds_option,
    data_option,
    keep_option,
    make_executor,
    results_option,
)
from gridrun.commands._show import ending, exit_with, printable, show_not_kept
from gridrun.commands._views import EpochView
from gridrun.text import format_percent, number_of

if TYPE_CHECKING:
    from gridrun.store import Row
    from trainer.runtime import KeepCheckpoint


@click.command("train")
@click.argument("settings", metavar="KEY=VALUE...", nargs=-1, required=True)
@results_option
@data_option
@click.option("--cpus", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads.")
@click.option("--gpus", type=click.IntRange(min=0), help="0 trains on the CPU. [default: a GPU if any]")
@checkpoint_seconds_option
@keep_option
@click.option("--executor", type=click.Choice(["ray", "serial"]), default="serial", show_default=True)
def command(
    settings: tuple[str, ...],
    results: Path,
    data: Path,
    cpus: int,
    gpus: int | None,
    checkpoint_seconds: float,
    keep: KeepCheckpoint | None,
    executor: str,
) -> None:
    """Train one trial without a grid.

    Such as: gridrun train model=resnet model.depth=20 epochs=10 seed=1. It has the id, and the place in
    the store, that a grid would give it. A trial that is done is not trained again; one that failed or
    diverged is.
    """
    from gridrun import sweep as sweep
    from gridrun.grid import lone_trial
    from gridrun.store import Store
    from trainer import Runtime

    grid, store = lone_trial(settings), Store(results)
    with make_executor(executor, None, gpus, None, cpus) as runs:
        summary = sweep.launch(
            [grid],
            store,
            runs,
            runtime=Runtime(
                data_dir=data.absolute(),
                threads=cpus,
                checkpoint_seconds=checkpoint_seconds,
                keep_checkpoint=keep or "none",
            ),
            retry=True,
            close=True,
            on_event=EpochView().show,
        )
    (trial,) = grid.trials
    for row in store.rows([trial.trial_id]).values():
        click.echo(ended(row))
        for note in filter(None, (row["notes"] or "").split("; ")):
            click.echo(f"note: {printable(note)}", err=True)
    if summary.interrupted:
        click.echo("Interrupted; the same command goes on.", err=True)
    if keep not in (None, "none"):
        show_not_kept(summary.plan, store)
    exit_with(summary)


def ended(row: Row) -> str:
    """Return the line that says how a trial ended."""
    if row["status"] != "done":
        return f"{row['trial_id']}  {ending(row)}"
    return (
        f"{row['trial_id']}  done: test error {format_percent(row['test_error'])} %, "
        f"{number_of(row['epochs_trained'], 'epoch')} in {row['train_seconds']:.1f} s"
    )
