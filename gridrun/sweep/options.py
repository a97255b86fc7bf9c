"""How one launch runs its trials. The plan, the dry run and the launch itself share these options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gridrun import resources
from gridrun.errors import GridrunError
from gridrun.grid import Grid
from gridrun.resources import Capacity, GpusPerTrial
from gridrun.sweep.retries import RetryPolicy
from trainer import Runtime


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchOptions:
    """The options of one launch, with what its grids say already taken into account."""

    runtime: Runtime
    """Directories, threads, checkpoint interval, which weights to keep. The executor sets the device."""
    capacity: Capacity = field(default_factory=resources.capacity)
    on_cluster: bool = False
    """Whether a cluster's machines run the trials, which may differ from this one."""
    gpus_per_trial: GpusPerTrial | None = None
    """Share of a GPU that each trial gets, for the executor; None: a whole GPU if there is any."""
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    only: Sequence[str] = ()
    """Ids, or beginnings of ids, of the trials to run; empty: all."""
    retry: bool = False
    """Also run failed and diverged trials again."""
    again: Sequence[str] = ()
    """Which ended trials to train anew (`gridrun.plan.again.chosen`)."""
    checkpoints: str | None = None
    """A directory or URI that every machine reaches, to copy checkpoints to."""
    tag: str | None = None
    """Kept in the records of the launch's trials."""
    budget_hours: float | None = None
    """Most GPU-hours (core-hours without a GPU) that the estimate may come to."""
    close_executor: bool = False
    """Close the executor inside the launch, where a first Ctrl-C only creates the stop file."""


def agreed(grids: Sequence[Grid], attribute: str, override: Any = None, one_launch: bool = True) -> Any:
    """Return `override` if given, else the value that the grids agree on; None if no grid has one.

    Args:
        attribute: of a grid, such as `retries`; it is named like the option.
        one_launch: whether one launch runs all grids. If False, differing values give None, not an error.

    Raises:
        GridrunError: two grids of one launch have different values.
    """
    if override is not None:
        return override
    paths = {getattr(grid, attribute): grid.path for grid in grids}
    paths.pop(None, None)
    if len(paths) <= 1 or not one_launch:
        return next(iter(paths)) if len(paths) == 1 else None
    values = ", ".join(f"{path} says {value}" for value, path in paths.items())
    advice = f"plan and launch them one at a time, or let --{attribute.replace('_', '-')} decide for all"
    raise GridrunError(f"{attribute}: {values}; {advice}")
