"""Running trials from the command line: the options of every command that does, and the run itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridrun.commands._options import (
    budget_option,
    checkpoint_seconds_option,
    checkpoints_option,
    cpus_option,
    cpus_per_trial_option,
    data_option,
    gathered,
    gpus_option,
    gpus_per_trial_option,
    keep_option,
    make_executor,
    no_empty,
)
from gridrun.commands._views import make_view
from gridrun.errors import GridrunError

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.launch import Summary
    from gridrun.packing import GpusPerTrial
    from gridrun.schedule import Capacity
    from gridrun.store import Store
    from trainer.runtime import KeepCheckpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepOptions:
    """What the user says of how trials are to run; None leaves it to the grids, then to the default."""

    data: Path
    cpus: int | None
    gpus: int | None
    gpus_per_trial: GpusPerTrial | None
    cpus_per_trial: int
    budget_hours: float | None
    address: str | None
    checkpoint_seconds: float
    checkpoints: str | None
    keep: KeepCheckpoint | None
    mlflow: str | None
    wandb: bool
    executor: str
    retries: int | None
    stop_after_failures: int | None


_OPTIONS = (
    data_option,
    cpus_option,
    gpus_option,
    gpus_per_trial_option,
    cpus_per_trial_option,
    budget_option,
    click.option(
        "--address",
        metavar="HOST:PORT",
        callback=no_empty,
        help="Join the Ray cluster there, instead of starting Ray on this machine.",
    ),
    checkpoint_seconds_option,
    checkpoints_option,
    keep_option,
    click.option(
        "--mlflow",
        metavar="URI",
        callback=no_empty,
        help="Tell an MLflow server of every epoch. Needs mlflow.",
    ),
    click.option("--wandb", is_flag=True, help="Tell Weights & Biases of every epoch. Needs wandb."),
    click.option("--executor", type=click.Choice(["ray", "serial"]), default="ray", show_default=True),
    click.option(
        "--retries",
        metavar="N",
        type=click.IntRange(min=0),
        help="Start a failed trial again, from its checkpoint, up to N times. [default: what the grids "
        "say, else 2 after a killed worker, too little memory, a lost machine or unreadable "
        "--checkpoints, 0 after an error]",
    ),
    click.option(
        "--stop-after-failures",
        metavar="N",
        type=click.IntRange(min=1),
        help="Start no more once N trials have failed since the last that did not.",
    ),
)


sweep_options = gathered(SweepOptions, "options", _OPTIONS)
"""Give a command the options of `SweepOptions`, as its argument `options`."""


def run_sweep(
    grids: Sequence[Grid],
    store: Store,
    options: SweepOptions,
    *,
    only: Sequence[str] = (),
    retry: bool = False,
) -> Summary:
    """Launch grids, showing on stderr what happens."""
    from gridrun import launch as sweep
    from gridrun.failures import RetryPolicy
    from trainer import Runtime

    share = agreed(grids, "gpus_per_trial", options.gpus_per_trial)
    policy = RetryPolicy(
        retries=agreed(grids, "retries", options.retries),
        stop_after_failures=agreed(grids, "stop_after_failures", options.stop_after_failures),
    )
    runtime = Runtime(
        data_dir=options.data.absolute(),
        threads=options.cpus_per_trial,
        checkpoint_seconds=options.checkpoint_seconds,
        keep_checkpoint=kept_by(grids, options.keep),
    )
    executor = make_executor(
        options.executor,
        options.cpus,
        options.gpus,
        share,
        options.cpus_per_trial,
        mlflow=options.mlflow,
        wandb=options.wandb,
        address=options.address,
    )
    with executor as runs, make_view() as view:
        return sweep.launch(
            grids,
            store,
            runs,
            runtime=runtime,
            only=only,
            retry=retry,
            policy=policy,
            checkpoints=options.checkpoints,
            capacity=capacity_of(grids, options),
            budget_hours=options.budget_hours,
            close=True,
            on_event=view.show,
            on_state=view.update,
        )


def capacity_of(grids: Sequence[Grid], options: SweepOptions) -> Capacity:
    """Return what trials may take: what the options say, else what this machine has."""
    from gridrun.hardware import capacity

    share = agreed(grids, "gpus_per_trial", options.gpus_per_trial)
    found = capacity(options.cpus, options.gpus, share, options.cpus_per_trial)
    if options.executor == "serial":
        return replace(found, cpus=options.cpus_per_trial, gpus=min(found.gpus, 1))
    return found


def agreed(grids: Sequence[Grid], key: str, option: Any = None) -> Any:
    """Return what the option says, else what those grids say that say anything; None if none does."""
    said = {getattr(grid.running, key): grid.path for grid in grids}
    said.pop(None, None)
    if option is not None or not said:
        return option
    return _only(said, key)


def kept_by(grids: Sequence[Grid], option: KeepCheckpoint | None = None) -> KeepCheckpoint:
    """Return whose weights the trials keep; one launch keeps the same of all."""
    kept: KeepCheckpoint = option or _only(
        {grid.keep_checkpoint: grid.path for grid in grids}, "keep_checkpoint"
    )
    return kept


def _only(said: dict[Any, Path], key: str) -> Any:
    if len(said) > 1:
        each = ", ".join(f"{path} says {value}" for value, path in said.items())
        option = "--" + key.replace("_", "-")
        raise GridrunError(f"{key}: {each}; launch them one by one, or let {option} decide")
    return next(iter(said))
