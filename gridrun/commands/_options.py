"""Arguments and options that several commands share."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridrun.errors import LaunchError

if TYPE_CHECKING:
    from gridrun.resources import GpusPerTrial
    from gridrun.sweep.executor import Executor


from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gridrun.commands._views import make_view
from gridrun.errors import GridrunError

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.resources import Capacity, GpusPerTrial
    from gridrun.store import Store
    from gridrun.sweep import Summary
    from trainer.runtime import KeepCheckpoint


def gathered(
    made: Callable[..., Any], argument: str, options: Sequence[Callable[[Any], Any]]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command some options as one argument.

    Args:
        made: a dataclass; its fields have the names of the options, those without an option a default.
        argument: what the command calls it.
        options: click's own decorators.
    """
    names = [field.name for field in dataclasses.fields(made)]  # type: ignore[arg-type]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def collected(*arguments: Any, **given: Any) -> None:
            own = made(**{name: given.pop(name) for name in names if name in given})
            command(*arguments, **{argument: own}, **given)

        for option in reversed(options):
            collected = option(collected)
        return collected

    return decorate


def no_empty(_: click.Context, __: click.Parameter, place: str | None) -> str | None:
    """Refuse a place without a name, such as a variable that is not set: it would be none."""
    if place is not None and not place.strip():
        raise click.BadParameter(_NO_PLACE)
    return place


_NO_PLACE = "names no place; leave the option out instead"


class Directory(click.Path):
    """A directory that is there, or can be made; without a name it would be the current one."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value).strip():
            self.fail(_NO_PLACE, param, ctx)
        try:
            Path(value).stat()
        except FileNotFoundError:
            pass
        except OSError as error:  # a name too long, a file among its parents, or one that is closed
            self.fail(f"{click.format_filename(value)}: {error.strerror}", param, ctx)
        return super().convert(value, param, ctx)


results_option = click.option(
    "--results",
    metavar="DIR",
    envvar="GRIDRUN_RESULTS",
    default="results",
    show_default=True,
    type=Directory(),
    help="The store: where results are kept. [env: GRIDRUN_RESULTS]",
)


def _no_nan(_: click.Context, __: click.Parameter, number: float | None) -> float | None:
    """Refuse what is no number, for it is neither more nor less than any."""
    if number is not None and math.isnan(number):
        raise click.BadParameter("must be a number >= 0, got nan")
    return number


data_option = click.option(
    "--data",
    metavar="DIR",
    envvar="GRIDRUN_DATA",
    default="data",
    show_default=True,
    type=Directory(),
    help="Where data-set archives are; what is not there is downloaded. [env: GRIDRUN_DATA]",
)
checkpoint_seconds_option = click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    callback=_no_nan,
    help="Save running trials so often; a kill loses at most that much.",
)


checkpoints_option = click.option(
    "--checkpoints",
    metavar="PLACE",
    callback=no_empty,
    help="Copy checkpoints there too, and go on from there on another machine: a directory, or a URI such as "
    "s3://bucket/path.",
)
keep_option = click.option(
    "--keep-checkpoint",
    "keep",
    type=click.Choice(["last", "best", "none"]),
    help="Keep each trial's weights after its last epoch, or after that of the lowest test error. "
    "[default: what the grids say, else none]",
)
cpus_option = click.option("--cpus", type=click.IntRange(min=1), help="CPUs to use. [default: all]")
gpus_option = click.option("--gpus", type=click.IntRange(min=0), help="GPUs to use. [default: all]")


def _read_gpus_per_trial(_: click.Context, __: click.Parameter, text: str | None) -> GpusPerTrial | None:
    """Read a number, or `auto`."""
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


gpus_per_trial_option = click.option(
    "--gpus-per-trial",
    metavar="F",
    callback=_read_gpus_per_trial,
    help="Below 1, trials share a GPU; auto measures how many of a config may. "
    "[default: what the grids say, else 1 if any]",
)
cpus_per_trial_option = click.option(
    "--cpus-per-trial", type=click.IntRange(min=1), default=1, show_default=True
)
budget_option = click.option(
    "--budget-hours",
    metavar="H",
    type=click.FloatRange(min=0),
    callback=_no_nan,
    help="Refuse to start what is estimated at more GPU-hours (core-hours without a GPU).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def make_executor(
    name: str,
    cpus: int | None,
    gpus: int | None,
    gpus_per_trial: GpusPerTrial | None,
    cpus_per_trial: int,
    *,
    mlflow: str | None = None,
    wandb: bool = False,
    address: str | None = None,
) -> Executor:
    """Return the executor called `name`; it starts nothing before it has work."""
    if name == "serial":
        if mlflow or wandb:
            raise LaunchError("--mlflow and --wandb are Ray's; they need --executor ray")
        if address:
            raise LaunchError("--address is Ray's; it needs --executor ray")
        from gridrun.executors.serial import SerialExecutor

        return SerialExecutor(gpus)
    from gridrun.executors.ray.trackers import Trackers
    from gridrun.executors.ray.tune import RayTuneExecutor, Resources

    return RayTuneExecutor(
        Resources(cpus=cpus, gpus=gpus, gpus_per_trial=gpus_per_trial, cpus_per_trial=cpus_per_trial),
        Trackers(mlflow=mlflow, wandb=wandb),
        address,
    )


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
    from gridrun import sweep as sweep
    from gridrun.resources import default_cache_dir
    from gridrun.sweep.retries import RetryPolicy
    from trainer import Runtime

    share = agreed(grids, "gpus_per_trial", options.gpus_per_trial)
    policy = RetryPolicy(
        retries=agreed(grids, "retries", options.retries),
        stop_after_failures=agreed(grids, "stop_after_failures", options.stop_after_failures),
    )
    runtime = Runtime(
        data_dir=options.data.absolute(),
        cache_dir=default_cache_dir(),
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
    from gridrun.resources import capacity

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
