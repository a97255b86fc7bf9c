"""Which grids a command is about: its arguments, and the files read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridrun.commands import tell_of
from gridrun.commands._options import gathered
from gridrun.errors import GridError, GridrunError

if TYPE_CHECKING:
    from gridrun.grid import Grid

set_option = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set a trainer option in every trial, such as model.depth=56.",
)
seeds_option = click.option(
    "--seeds", type=click.IntRange(min=1), help="Run seeds 0..N-1 instead of the grid's."
)
profile_option = click.option(
    "--profile", metavar="NAME", help="A reduced form of the study, as the grid's `profiles` have it."
)
scale_option = click.option(
    "--scale",
    metavar="epochs=F,train=N",
    help="Run a reduced form: a share or a number of epochs, so many training images.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class GridOptions:
    """The grids that are named, and in which form they are wanted."""

    paths: Sequence[Path] = ()
    profile: str | None = None
    scale: str | None = None
    settings: Sequence[str] = ()
    seeds: int | None = None

    def __bool__(self) -> bool:
        """Whether the user has said anything of grids."""
        return any((self.paths, self.profile, self.scale, self.settings, self.seeds))

    def read(self) -> list[Grid]:
        """Load the files; if none is named every `grids/*.yaml`, or those that have the profile.

        Of files that nobody named, a broken one is told of and left out.

        Raises:
            GridrunError: there is none, or one that is named does not say what to train.
        """
        from gridrun.grid import load_grid
        from gridrun.grid.sources import parse_overrides, parse_scale

        overrides = parse_overrides(self.settings)
        scale = None if self.scale is None else parse_scale(self.scale)
        here = {} if self.paths else self._here()
        if here and not (overrides or scale or self.profile):
            grids = list(here.values())
        else:
            paths = self.paths or here
            grids = [load_grid(path, overrides, profile=self.profile, scale=scale) for path in paths]
        return [grid.with_seeds(self.seeds) for grid in grids] if self.seeds else grids

    def _here(self) -> dict[Path, Grid]:
        here = grids_here()
        if self.profile is None:
            return here
        from trainer.registry import did_you_mean

        if found := {path: grid for path, grid in here.items() if self.profile in grid.profiles}:
            return found
        known = {name for grid in here.values() for name in grid.profiles}
        raise GridrunError(
            f"no grids/*.yaml has a profile {self.profile!r}.{did_you_mean(self.profile, known)}"
        )


def grids_here() -> dict[Path, Grid]:
    """Return every grid of this directory by its file, and tell of those that are broken.

    With one of those the command goes on, and exits with 2 in the end.

    Raises:
        GridrunError: there is none.
    """
    from gridrun.grid import load_grid

    paths = sorted(Path("grids").glob("[!.]*.yaml"))  # editors and file servers leave hidden ones
    if not paths:
        raise GridrunError("no grid file is named, and there is no grids/*.yaml here")
    found = {}
    for path in paths:
        try:
            found[path] = load_grid(path)
        except GridError as error:
            tell_of(error)
    if not found:
        raise SystemExit(2)
    return found


def grid_options(
    *more: Callable[[Any], Any], required: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `GridOptions`, as its argument `grids`.

    Args:
        more: `set_option` and `seeds_option`, where they make sense.
        required: whether a grid has to be named.
    """
    named = click.argument(
        "paths", metavar="GRID...", nargs=-1, required=required, type=click.Path(path_type=Path)
    )
    return gathered(GridOptions, "grids", (named, profile_option, scale_option, *more))
