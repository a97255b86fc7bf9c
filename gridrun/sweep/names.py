"""What trackers call a sweep's trials: an experiment is a grid, a run is named by what differs in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from gridrun.grid import Grid
from gridrun.grid.describe import describe_options
from gridrun.grid.table_specs import default_columns
from gridrun.metrics import METRICS

MAX_NAME = 120
"""Longest name of a directory, in characters."""


class TrialName(NamedTuple):
    """The name of a trial for trackers."""

    experiment: str
    """Name of the first grid that asks for it."""
    run: str
    """What tells it from the grid's other trials: `batch size 32, cosine, seed 0`."""

    def path(self, trial_id: str) -> tuple[str, str]:
        """Return it as two names of directories, the second with the beginning of the id."""
        words = re.sub(r"[^\w.+,-]+", "-", self.run.replace(", ", "__")).strip(".-")
        return self.experiment, f"{words[:MAX_NAME]}__{trial_id[:8]}"


def names_of(grids: Iterable[Grid]) -> dict[str, TrialName]:
    """Return the name of each trial, by id."""
    names: dict[str, TrialName] = {}
    for grid in grids:
        columns = (
            [column for column in default_columns(grid.rows) if column not in METRICS] if grid.rows else []
        )
        for row in grid.rows:
            options = describe_options({column: row.column(column) for column in columns})
            for seed, trial_id in zip(row.seeds, row.trial_ids, strict=True):
                run = ", ".join([options or row.config.model.label, f"seed {seed}"])
                names.setdefault(trial_id, TrialName(grid.name, run))
    return names
