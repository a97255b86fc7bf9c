"""Options that several commands share, and the objects that they fill."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from gridrun.commands._help import complete_profile, complete_setting
from gridrun.errors import GridError, GridrunError, LaunchError

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.resources import CpusPerTrial, GpusPerTrial
    from gridrun.store import Store
    from gridrun.sweep.executor import Executor
    from gridrun.sweep.listener import Listener
    from gridrun.sweep.options import LaunchOptions
    from trainer.runtime import Compile, KeepCheckpoint

Decorator: TypeAlias = Callable[[Any], Any]

HAD_ERRORS = f"{__name__}.had_errors"
"""Key of click's context: whether the command exits with 2 at its end, because it left something out."""


def options_as(cls: Callable[..., Any], argument: str, options: Sequence[Decorator]) -> Decorator:
    """Return a decorator that gives a command several options, in the order of `--help`, as one argument.

    `cls` is a dataclass whose fields are named like the options. Fields without an option keep their default.
    """
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapped(*arguments: Any, **values: Any) -> None:
            own = cls(**{name: values.pop(name) for name in names if name in values})
            command(*arguments, **{argument: own}, **values)

        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped

    return decorate


_NO_PLACE = "names no place; leave the option out instead"


def _not_empty(_: click.Context, __: click.Parameter, place: str | None) -> str | None:
    """Refuse an empty string, which a shell variable that is not set leaves behind."""
    if place is not None and not place.strip():
        raise click.BadParameter(_NO_PLACE)
    return place


def _not_nan(_: click.Context, __: click.Parameter, number: float | None) -> float | None:
    if number is not None and math.isnan(number):
        raise click.BadParameter("must be a number >= 0, got nan")
    return number


class Directory(click.Path):
    """A directory that exists or can be made. An empty name, which would be the current one, is refused."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value).strip():
            self.fail(_NO_PLACE, param, ctx)
        try:
            with contextlib.suppress(FileNotFoundError):
                Path(value).stat()
        except OSError as error:  # the name is too long, or a parent is a file or not readable
            self.fail(f"{click.format_filename(value)}: {error.strerror}", param, ctx)
        return super().convert(value, param, ctx)


results_option = click.option(
    "--results",
    metavar="DIR",
    envvar="GRIDRUN_RESULTS",
    default="results",
    type=Directory(),
    help="Results directory. [env: GRIDRUN_RESULTS]",
)
data_option = click.option(
    "--data",
    metavar="DIR",
    envvar="GRIDRUN_DATA",
    default="data",
    type=Directory(),
    help="Directory of data-set archives; missing ones are downloaded. [env: GRIDRUN_DATA]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

profile_option = click.option(
    "--profile",
    metavar="NAME",
    shell_complete=complete_profile,
    help="Take a reduced version of the study, one of the grid's `profiles`.",
)
scale_option = click.option(
    "--scale",
    metavar="epochs=F,train=F",
    help="Take a reduced version: a fraction or number of epochs, and of training images.",
)
set_option = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    shell_complete=complete_setting,
    help="Set a trainer option in every trial, such as model.depth=56.",
)
seeds_option = click.option(
    "--seeds", metavar="N", type=click.IntRange(min=1), help="Take seeds 0 to N-1 instead of the grid's."
)
where_option = click.option(
    "--where",
    metavar="KEY=VALUE",
    multiple=True,
    shell_complete=complete_setting,
    help="Take only rows with this value; [A, B] means either.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class GridOptions:
    """Which grid files to read, and how to change them."""

    paths: Sequence[Path] = ()
    profile: str | None = None
    scale: str | None = None
    settings: Sequence[str] = ()
    seeds: int | None = None
    where: Sequence[str] = ()

    def __bool__(self) -> bool:
        """Whether the user gave any of them."""
        return bool(self.paths or self.arguments)

    @property
    def arguments(self) -> list[str]:
        """The options as they would be typed again, without the grid files."""
        given = {
            "--profile": [self.profile],
            "--scale": [self.scale],
            "--set": self.settings,
            "--seeds": [self.seeds],
            "--where": self.where,
        }
        return [f"{name}={value}" for name, values in given.items() for value in values if value is not None]

    def read(self, store: Store | None = None) -> list[Grid]:
        """Load the named files, with as many seeds of `seeds: auto` as the store asks for; see `load`."""
        from gridrun.looks import settle

        return settle(self.load(), store) if store else self.load()

    def load(self) -> list[Grid]:
        """Load the named files; if none is named every `grids/*.yaml`, or those that have the profile.

        A broken file that was not named is reported and left out, a grid without a row that `where` wants
        is left out. Raises GridrunError if nothing is left.
        """
        from gridrun.grid import load_grids

        options = self.row_options()
        found = {} if self.paths else find_grids()
        if found and self.profile is not None:
            found = _with_profile(found, self.profile)
        if found and not self.arguments:
            return list(found.values())
        return load_grids([*(self.paths or found)], **options)

    def row_options(self) -> dict[str, Any]:
        """Return them, but for the files, as arguments of `load_grids`: plain data. Raises GridError."""
        from gridrun.grid.sources import parse_overrides, parse_scale

        return {
            "overrides": parse_overrides(self.settings),
            "profile": self.profile,
            "scale": None if self.scale is None else parse_scale(self.scale),
            "seeds": self.seeds,
            "where": parse_overrides(self.where, "--where", "epochs=200"),
        }


def _with_profile(grids: dict[Path, Grid], profile: str) -> dict[Path, Grid]:
    from trainer.registry import did_you_mean

    if found := {path: grid for path, grid in grids.items() if profile in grid.profiles}:
        return found
    known = {name for grid in grids.values() for name in grid.profiles}
    raise GridrunError(f"no grids/*.yaml has a profile {profile!r}.{did_you_mean(profile, known)}")


def find_grids() -> dict[Path, Grid]:
    """Return every grid of `grids/` and of the folders in it by its file, but for folders like `_base`.

    Broken files are reported; the exit code will be 2.
    """
    from gridrun.grid import load_grid

    patterns = "[!.]*.yaml", "[!._]*/[!.]*.yaml"  # editors and file servers leave hidden ones
    paths = sorted(path for pattern in patterns for path in Path("grids").glob(pattern))
    if not paths:
        raise GridrunError("no grid file is named, and there is no grids/*.yaml here")
    found = {}
    for path in paths:
        try:
            found[path] = load_grid(path)
        except GridError as error:
            click.echo(f"Error: {error}", err=True)
            click.get_current_context().meta[HAD_ERRORS] = True
    if not found:
        raise SystemExit(2)
    return found


ROW_OPTIONS = (profile_option, scale_option, set_option, seeds_option, where_option)
"""Which rows of the grids a command is about. Every command that reads rows takes all of them."""


def grid_options(*options: Decorator, required: bool = False, metavar: str = "") -> Decorator:
    """Give a command `GridOptions` as its argument `grids`. `options`: not all of ROW_OPTIONS, but these."""
    paths = click.argument(
        "paths",
        metavar=metavar or ("GRID..." if required else "[GRID]..."),
        nargs=-1,
        required=required,
        type=click.Path(path_type=Path),
    )
    return options_as(GridOptions, "grids", (paths, *(options or ROW_OPTIONS)))


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
            LaunchError: `notify` names no program.
            GridrunError: event files cannot be written.
        """
        found: list[Listener] = []
        warn = functools.partial(click.echo, err=True)
        if self.tensorboard:
            from gridrun.sweep.names import names_of
            from gridrun.sweep.tensorboard import EventFiles

            found.append(EventFiles(self.tensorboard, store, names_of(grids), warn))
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
        """
        from gridrun import resources
        from gridrun.sweep import options
        from gridrun.sweep.retries import RetryPolicy
        from trainer import Runtime

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
            if self.mlflow or self.wandb:
                raise LaunchError("--mlflow and --wandb need --executor ray")
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
            trackers=Trackers(mlflow=self.mlflow, wandb=self.wandb, names=names_of(grids)),
            every_epoch=self.tensorboard is not None,
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
    "--cpus", "cpus_per_trial", type=click.IntRange(min=1), default=1, help="CPU threads."
)
checkpoint_seconds_option = click.option(
    "--checkpoint-seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=30.0,
    callback=_not_nan,
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
        callback=_not_nan,
        help="Refuse to start if the estimate, or the upper end of a guess, is more GPU-hours than this "
        "(core-hours without a GPU).",
    ),
)
RUN_OPTIONS = (
    data_option,
    *PLAN_OPTIONS,
    click.option(
        "--address",
        metavar="HOST:PORT",
        callback=_not_empty,
        help="Join the Ray cluster at this address, instead of starting Ray on this machine.",
    ),
    checkpoint_seconds_option,
    click.option(
        "--checkpoints",
        metavar="PLACE",
        callback=_not_empty,
        help="Also copy checkpoints to this directory or URI, such as s3://bucket/path, so that another "
        "machine can resume.",
    ),
    keep_option("what the grids say, else none"),
    compile_option("what the grids say, else off"),
    click.option(
        "--mlflow",
        metavar="URI",
        callback=_not_empty,
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
        "after a killed worker, too little memory, a lost machine or unreadable --checkpoints, 0 after an "
        "error]",
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
        callback=_not_empty,
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
