"""`gridrun train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from gridrun.commands import _options, _sweep_options
from gridrun.commands._help import GroupedCommand, complete_setting
from gridrun.commands._show import INTERRUPTED, exit_with, format_end, show_missing_weights
from gridrun.commands._sweep_options import SweepOptions
from gridrun.text import number_of, printable


@click.command(
    "train",
    cls=GroupedCommand,
    example="gridrun train dataset=digits model=resnet_preact model.depth=8 epochs=3 seed=1",
)
@click.argument("settings", metavar="KEY=VALUE...", nargs=-1, required=True, shell_complete=complete_setting)
@_options.results_option
@_sweep_options.sweep_options(
    _options.data_option,
    _sweep_options.threads_option,
    click.option("--gpus", type=click.IntRange(min=0), help="0 trains on the CPU. [default: a GPU if any]"),
    _sweep_options.checkpoint_seconds_option,
    _sweep_options.keep_option(),
    _sweep_options.compile_option(),
    click.option(
        "--executor",
        type=click.Choice(["ray", "serial"]),
        default="serial",
        help="Train in this process, or in a worker of Ray.",
    ),
)
def command(settings: tuple[str, ...], results: Path, options: SweepOptions) -> None:
    """Train one trial without a grid.

    The trial gets the id that it would have in a grid. If it is done, it is not trained again; if it failed
    or diverged, it is.
    """
    from gridrun.commands._views import Log, run_sweep
    from gridrun.grid import lone_trial
    from gridrun.store import Store

    grid, store = lone_trial(settings), Store(results)
    resolved = replace(options, retry=True).resolve([grid])
    summary = run_sweep(
        [grid], store, resolved, options.make_executor(resolved.gpus_per_trial), Log(epochs=True)
    )
    (trial,) = grid.trials
    for row in store.rows([trial.trial_id]).values():
        end = format_end(row)
        if row["status"] == "done":
            end += f", {number_of(row['epochs_trained'], 'epoch')} in {row['train_seconds']:.1f} s"
        click.echo(f"{trial.trial_id}  {end}")
        for note in filter(None, (row["notes"] or "").split("; ")):
            click.echo(f"note: {printable(note)}", err=True)
    if summary.interrupted:
        click.echo(INTERRUPTED, err=True)
    if resolved.runtime.keep_checkpoint != "none":
        show_missing_weights(summary.plan, store)
    exit_with(summary)
