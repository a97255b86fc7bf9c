"""Options that say how trials are run, and the object that they fill."""

from __future__ import annotations

import functools
import math
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridrun.commands._options import Decorator, Directory, data_option, not_empty, not_nan, options_as
from gridrun.errors import LaunchError
from gridrun.text import printable_lines

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.resources import CpusPerTrial, GpusPerTrial
    from gridrun.store import Store
    from gridrun.sweep.executor import Executor
    from gridrun.sweep.listener import Listener
    from gridrun.sweep.options import LaunchOptions
    from trainer.runtime import Compile, KeepCheckpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepOptions:
    """How the user wants trials run. None: what the grids say, else the default."""

    data: Path = Path("data")
    cpus: int | None = None
    gpus: int | None = None
    gpus_per_trial: GpusPerTrial | None = None
    cpus_per_trial: CpusPerTrial = 1
    budget_hours: float | None = None
    address: str | None = None
    checkpoint_seconds: float = 30.0
    checkpoints: str | None = None
    keep: KeepCheckpoint | None = None
    compile: Compile | None = None
    mlflow: str | None = None
    wandb: bool = False
    executor: str = "ray"
    retries: int | None = None
    stop_after_failures: int | None = None
    only: Sequence[str] = ()
    retry: bool = False
    again: Sequence[str] = ()
    tag: str | None = None
    notify: str | None = None
    tensorboard: Path | None = None

    def listeners(self, grids: Sequence[Grid], store: Store) -> list[Listener]:
        """Return who follows the sweep of these grids, beside the screen.

        Raises:
            LaunchError: `notify` names no program, or the package of a tracker is missing.
            GridrunError: event files cannot be written.
        """
        from gridrun.sweep.names import names_of

        found: list[Listener] = []

        def warn(text: str) -> None:  # what a tracker's server or a command of the user's has said
            click.echo(printable_lines(text), err=True)

        if self.tensorboard:
            from gridrun.sweep.tensorboard import EventFiles

            found.append(EventFiles(self.tensorboard, store, names_of(grids), warn))
        if self.mlflow:
            from gridrun.sweep.mlflow import MLflowRuns

            found.append(MLflowRuns(self.mlflow, names_of(grids), warn))
        if self.notify is not None:
            from gridrun.sweep.notify import Notifier, read_command

            paths = [str(grid.path) for grid in grids if grid.path != Path()]
            about = {"grids": paths, "results": str(store.root.absolute()), "host": socket.gethostname()}
            found.append(Notifier(read_command(self.notify), about, warn))
        return found

    def resolve(self, grids: Sequence[Grid], one_launch: bool = True) -> LaunchOptions:
        """Combine the options with what the grids say.

        Raises:
            GridrunError: the grids are for `one_launch` and contradict each other.
            LaunchError: there is a budget for a cluster, whose machines nobody knows yet.
        """
        from gridrun import resources
        from gridrun.sweep import options
        from gridrun.sweep.retries import RetryPolicy
        from trainer import Runtime

        if self.address and self.budget_hours is not None:
            raise LaunchError(
                "--budget-hours with --address: the estimate would be for this machine, not for the cluster; "
                "run `gridrun plan --budget-hours` on one of its machines, and launch without"
            )
        agreed = functools.partial(options.agreed, grids, one_launch=one_launch)
        gpus_per_trial = agreed("gpus_per_trial", self.gpus_per_trial)
        if self.gpus_per_trial is None and not self.address and not resources.capacity(gpus=self.gpus).gpus:
            gpus_per_trial = None  # a grid says how to share GPUs; without any, its trials run on CPUs
        capacity = resources.capacity(self.cpus, self.gpus, gpus_per_trial, self.cpus_per_trial)
        if self.executor == "serial":
            capacity = replace(capacity, cpus=capacity.cpus_per_trial, gpus=min(capacity.gpus, 1))
        return options.LaunchOptions(
            runtime=Runtime(
                data_dir=self.data.absolute(),
                cache_dir=resources.default_cache_dir(),
                threads=capacity.cpus_per_trial,
                checkpoint_seconds=self.checkpoint_seconds,
                keep_checkpoint=agreed("keep_checkpoint", self.keep),
                compile=agreed("compile", self.compile) or "off",
            ),
            capacity=capacity,
            on_cluster=self.address is not None,
            gpus_per_trial=gpus_per_trial,
            retry_policy=RetryPolicy(
                retries=agreed("retries", self.retries),
                stop_after_failures=agreed("stop_after_failures", self.stop_after_failures),
            ),
            only=self.only,
            retry=self.retry,
            again=self.again,
            checkpoints=self.checkpoints,
            tag=self.tag,
            budget_hours=self.budget_hours,
            close_executor=True,
        )

    def make_executor(self, gpus_per_trial: GpusPerTrial | None, grids: Sequence[Grid] = ()) -> Executor:
        """Return the executor, which starts nothing before it has work.

        `resolve` gives `gpus_per_trial`; trackers name trials after `grids`.
        """
        if self.executor == "serial":
            if self.wandb:
                raise LaunchError("--wandb needs --executor ray")
            if self.address:
                raise LaunchError("--address needs --executor ray")
            if self.cpus_per_trial == "auto":
                raise LaunchError("--cpus-per-trial auto needs --executor ray")
            from gridrun.executors.serial import SerialExecutor

            return SerialExecutor(self.gpus)
        from gridrun.executors.ray.trackers import Trackers
        from gridrun.executors.ray.tune import RayTuneExecutor
        from gridrun.sweep.names import names_of

        return RayTuneExecutor(
            cpus=self.cpus,
            gpus=self.gpus,
            gpus_per_trial=gpus_per_trial,
            cpus_per_trial=self.cpus_per_trial,
            trackers=Trackers(wandb=self.wandb, names=names_of(grids)),
            every_epoch=bool(self.tensorboard or self.mlflow),
            address=self.address,
        )


def _read_gpus_per_trial(_: click.Context, __: click.Parameter, text: str | None) -> GpusPerTrial | None:
    if text is None or text == "auto":
        return text  # type: ignore[return-value]
    from gridrun.resources import is_share

    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not is_share(number):
        raise click.BadParameter(f"must be auto, a part of a GPU or a whole number, got {text!r}")
    return number


def _read_cpus_per_trial(_: click.Context, __: click.Parameter, text: str) -> CpusPerTrial:
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise click.BadParameter(f"must be auto or a whole number >= 1, got {text!r}")
    return int(text)


threads_option = click.option(
    "--cpus",
    "cpus_per_trial",
    type=click.IntRange(min=1),
    default=1,
    help="CPU threads; `launch` calls them --cpus-per-trial.",
)
checkpoint_seconds_option = click.option(
    "--checkpoint-seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=30.0,
    callback=not_nan,
    help="Save running trials at this interval; a kill loses at most this much work.",
)


def keep_option(default: str = "none") -> Decorator:
    """Return the option `--keep-checkpoint`; `default` says in words what counts without it."""
    return click.option(
        "--keep-checkpoint",
        "keep",
        type=click.Choice(["last", "best", "none"]),
        help="Keep each trial's weights from its last epoch, or from the one with the lowest test error. "
        f"[default: {default}]",
    )


def compile_option(default: str = "off") -> Decorator:
    """Return the option `--compile`; `default` says in words what counts without it."""
    return click.option(
        "--compile",
        type=click.Choice(["auto", "on", "off"]),
        help="Train compiled networks; auto: where that saves more time than it takes. They round "
        f"differently. [default: {default}]",
    )


PLAN_OPTIONS = (
    click.option("--cpus", type=click.IntRange(min=1), help="CPUs to use. [default: all]"),
    click.option("--gpus", type=click.IntRange(min=0), help="GPUs to use. [default: all]"),
    click.option(
        "--gpus-per-trial",
        metavar="F",
        callback=_read_gpus_per_trial,
        help="GPUs for each trial; below 1, trials share a GPU; auto measures how many fit. "
        "[default: what the grids say, else 1 if any]",
    ),
    click.option(
        "--cpus-per-trial",
        metavar="N",
        callback=_read_cpus_per_trial,
        default="1",
        help="CPU threads for each trial; auto measures with how many all trials together are fastest.",
    ),
    click.option(
        "--budget-hours",
        metavar="H",
        type=click.FloatRange(min=0),
        callback=not_nan,
        help="Refuse to start if the estimate, or the upper end of a guess, is more GPU-hours than this "
        "(core-hours without a GPU). Not with --address.",
    ),
)
RUN_OPTIONS = (
    data_option,
    *PLAN_OPTIONS,
    click.option(
        "--address",
        metavar="HOST:PORT",
        callback=not_empty,
        help="Join the Ray cluster at this address, instead of starting Ray on this machine.",
    ),
    checkpoint_seconds_option,
    click.option(
        "--checkpoints",
        metavar="PLACE",
        callback=not_empty,
        help="Also copy checkpoints to this directory or URI, such as s3://bucket/path, so that another "
        "machine can resume.",
    ),
    keep_option("what the grids say, else none"),
    compile_option("what the grids say, else off"),
    click.option(
        "--mlflow",
        metavar="URI",
        callback=not_empty,
        help="Log every epoch to this MLflow server. Needs mlflow.",
    ),
    click.option("--wandb", is_flag=True, help="Log every epoch to Weights & Biases. Needs wandb."),
    click.option(
        "--executor",
        type=click.Choice(["ray", "serial"]),
        default="ray",
        help="Run trials side by side on Ray, or one after another in this process.",
    ),
    click.option(
        "--retries",
        metavar="N",
        type=click.IntRange(min=0),
        help="Retry a failed trial up to N times, from its checkpoint. [default: what the grids say, else 2 "
        "after a killed worker, too little main memory, a lost machine or unreadable --checkpoints, 0 after "
        "an error]",
    ),
    click.option(
        "--tensorboard",
        metavar="DIR",
        type=Directory(),
        help="Write every epoch to this directory, as TensorBoard event files with hyper-parameters.",
    ),
    click.option(
        "--notify",
        metavar="COMMAND",
        callback=not_empty,
        help="Run this command at the first failure, at a standstill and at the end; it gets JSON on its "
        "standard input.",
    ),
    click.option(
        "--stop-after-failures",
        metavar="N",
        type=click.IntRange(min=1),
        help="Start no more trials once N have failed in a row.",
    ),
)


def sweep_options(*options: Decorator) -> Decorator:
    """Give a command `SweepOptions` as its argument `options`, filled from some click options."""
    return options_as(SweepOptions, "options", options)
