"""The training loop: one trial from its start, or its checkpoint, to its end."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

from trainer import parallel
from trainer.checkpoint import CheckpointError
from trainer.config import TrainConfig
from trainer.metrics import Epoch, Result
from trainer.run import Interrupted, Run
from trainer.runtime import Runtime, never, nothing

Report = Callable[[Epoch], None]

__all__ = ["Interrupted", "Report", "ignore", "train"]


def ignore(epoch: Epoch) -> None:
    """Drop a report."""


def train(
    config: TrainConfig, *, seed: int, report: Report = ignore, runtime: Runtime | None = None
) -> Result:
    """Train one trial to its end, from its checkpoint if there is one.

    Args:
        config: what to train.
        seed: of every random stream of the trial.
        report: called with each finished epoch, but for those before the checkpoint.
        runtime: where to run; nothing in it changes the result.

    Raises:
        DataError: the data set is not to be had.
        Interrupted: `runtime.should_stop` said so.
        ParallelError: there are fewer GPUs than the trial takes, or one of its other processes failed.
    """
    runtime = runtime or Runtime()
    followers = dataclasses.replace(runtime, should_stop=never, on_saved=nothing, keep_checkpoint="none")
    with (
        parallel.start(config.num_gpus, runtime.device, _follow, config, seed, followers) as group,
        contextlib.closing(_begin(config, seed, runtime, group)) as run,
    ):
        while not run.ended:
            report(run.epoch())
        run.keep_weights()
        return run.result()


def _follow(group: parallel.Group, config: TrainConfig, seed: int, runtime: Runtime) -> None:
    """Train as a rank after the first."""
    with (
        contextlib.closing(_begin(config, seed, runtime, group)) as run,
        contextlib.suppress(Interrupted),
    ):
        while not run.ended:
            run.epoch()


def _begin(config: TrainConfig, seed: int, runtime: Runtime, group: parallel.Group) -> Run:
    """Return the trial as its checkpoint has it, else from its start."""
    run, problem = Run(config, seed, runtime, group), ""
    try:
        run.resume()
    except CheckpointError as error:
        problem = str(error)
    if problem:
        del run  # it may be half restored, and a GPU has no room for two
        run = Run(config, seed, runtime, group)
        run.notes.append(f"started again: {problem}")
    if group.first(lambda: run.step) != run.step:
        raise CheckpointError("checkpoint is not the same to every process of the trial")
    return run
