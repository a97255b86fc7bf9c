"""Options that several commands share, and the objects that they fill."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from click.core import ParameterSource

from gridrun.commands._help import complete_profile, complete_setting
from gridrun.errors import GridError, GridrunError

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.store import Store

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


NO_PLACE = "names no place; leave the option out instead"


def not_empty(_: click.Context, __: click.Parameter, place: str | None) -> str | None:
    """Refuse an empty string, which a shell variable that is not set leaves behind."""
    if place is not None and not place.strip():
        raise click.BadParameter(NO_PLACE)
    return place


def not_nan(_: click.Context, __: click.Parameter, number: float | None) -> float | None:
    if number is not None and math.isnan(number):
        raise click.BadParameter("must be a number >= 0, got nan")
    return number


class Directory(click.Path):
    """A directory that exists or can be made. An empty name, which would be the current one, is refused."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value).strip():
            self.fail(NO_PLACE, param, ctx)
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
    raise GridrunError(f"no grid under grids/ has a profile {profile!r}.{did_you_mean(profile, known)}")


def find_grids() -> dict[Path, Grid]:
    """Return every grid of `grids/` and of the folders in it by its file, but for folders like `_base`.

    Broken files are reported; the exit code will be 2.
    """
    from gridrun.grid import load_grid

    patterns = "[!.]*.yaml", "[!._]*/[!.]*.yaml"  # editors and file servers leave hidden ones
    paths = sorted(path for pattern in patterns for path in Path("grids").glob(pattern))
    if not paths:
        raise GridrunError("no grid file is named, and there is none under grids/ here")
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


def was_given(*names: str) -> bool:
    """Return whether any of these parameters stands on the command line, even with its default."""
    source = click.get_current_context().get_parameter_source
    return any(source(name) is ParameterSource.COMMANDLINE for name in names)


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
