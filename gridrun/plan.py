"""What a sweep has to do: the trials wanted, less those that have ended, in order."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gridrun.trial import Trial

if TYPE_CHECKING:
    from gridrun.grid import Grid


@dataclass(frozen=True, slots=True)
class Plan:
    """Every trial that some grids ask for, once, in the order in which they are to start."""

    trials: tuple[Trial, ...]
    asked_for: int
    """Trials counted once a grid, so that what several grids share shows."""
    status: Mapping[str, str]
    """Of the trials that have ended, by trial id."""

    @property
    def missing(self) -> tuple[Trial, ...]:
        """Trials that have not ended."""
        return tuple(trial for trial in self.trials if trial.trial_id not in self.status)

    def ended(self, *statuses: str) -> tuple[Trial, ...]:
        """Trials that have ended in one of `statuses`."""
        return tuple(trial for trial in self.trials if self.status.get(trial.trial_id) in statuses)

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by status, and `missing`."""
        found = Counter(self.status.values())
        return {
            **{status: found[status] for status in ("done", "diverged", "failed")},
            "missing": len(self.missing),
        }


def make_plan(grids: Sequence[Grid], statuses: Mapping[str, str]) -> Plan:
    """Return the plan for `grids`, given the status of every ended trial by id."""
    by_grid = [_seed_by_seed(grid) for grid in grids]
    trials = {trial.trial_id: trial for trials in by_grid for trial in trials}
    return Plan(
        trials=tuple(trials.values()),
        asked_for=sum(map(len, by_grid)),
        status={trial_id: statuses[trial_id] for trial_id in trials if trial_id in statuses},
    )


def _seed_by_seed(grid: Grid) -> list[Trial]:
    """Return a grid's trials, the first seed of every row first, so that tables fill early."""
    numbered = [(nth, trial) for row in grid.rows for nth, trial in enumerate(row.trials)]
    return [trial for _, trial in sorted(numbered, key=operator.itemgetter(0))]
