"""Which grids a command is about: its arguments, and the files read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridrun.commands._options import gathered
from gridrun.errors import GridrunError

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

        Raises:
            GridrunError: there is none, or one does not say what to train.
        """
        from gridrun.grid import load_grid
        from gridrun.grid.overrides import parse_overrides, parse_scale

        overrides = parse_overrides(self.settings)
        scale = None if self.scale is None else parse_scale(self.scale)
        grids = [
            load_grid(path, overrides, profile=self.profile, scale=scale)
            for path in self.paths or self._here()
        ]
        return [grid.with_seeds(self.seeds) for grid in grids] if self.seeds else grids

    def _here(self) -> list[Path]:
        if self.profile is None:
            return grids_here()
        from gridrun.grid import load_grid
        from trainer.registry import did_you_mean

        profiles = {path: load_grid(path).profiles for path in grids_here()}
        if found := [path for path in profiles if self.profile in profiles[path]]:
            return found
        known = {name for names in profiles.values() for name in names}
        raise GridrunError(
            f"no grids/*.yaml has a profile {self.profile!r}.{did_you_mean(self.profile, known)}"
        )


def grids_here() -> list[Path]:
    """Return every grid of this directory. Raises GridrunError: there is none."""
    if paths := sorted(Path("grids").glob("*.yaml")):
        return paths
    raise GridrunError("no grid file is named, and there is no grids/*.yaml here")


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
