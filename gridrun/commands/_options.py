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
    from gridrun.executors.base import Executor
    from gridrun.packing import GpusPerTrial


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
    from gridrun.packing import is_share

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
    from gridrun.executors.ray_trackers import Trackers
    from gridrun.executors.ray_tune import RayTuneExecutor, Resources

    return RayTuneExecutor(
        Resources(cpus=cpus, gpus=gpus, gpus_per_trial=gpus_per_trial, cpus_per_trial=cpus_per_trial),
        Trackers(mlflow=mlflow, wandb=wandb),
        address,
    )
