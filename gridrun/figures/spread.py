"""The figure of how much each row varies from seed to seed, beside what all rows together do."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gridrun import verdicts
from gridrun.tables.judge import size_of, test_set_of
from gridrun.trial import digest
from gridrun.verdicts import Runs

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.store.records import Record

KIND = "spread"
"""What `gridrun plot --kind` calls it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpreadPanel:
    """The rows of one test set. Errors are fractions."""

    title: str
    num_test: int
    phi: float
    """What all rows share: their variance as a multiple of the binomial one."""
    rows: tuple[tuple[float, float, int], ...]
    """Of each row the mean error, the standard deviation of its runs, and their number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpreadFigure:
    """Rows' own standard deviations against the pooled one, one panel for each test set."""

    id: str
    title: str
    panels: tuple[SpreadPanel, ...]

    @property
    def digest(self) -> str:
        """Hash of all that is shown."""
        return digest(dataclasses.asdict(self))


def spread_figure(grids: Sequence[Grid], records: Mapping[str, Record]) -> SpreadFigure | None:
    """Return the figure of the rows of some grids; None if no row has two runs. `records` are by trial id."""
    rows = {row.config_id: row for grid in grids for row in grid.rows}
    panels: dict[object, list[Runs]] = {}
    labels: dict[object, str] = {}
    for row in rows.values():
        done = (records[i] for i in row.trial_ids if i in records and records[i].status == "done")
        errors = tuple(record.test_error for record in done if record.test_error is not None)
        runs = Runs(errors, *size_of(row.config))
        if errors and runs.counts:
            test_set = test_set_of(row.config.flat())
            panels.setdefault(test_set, []).append(runs)
            labels[test_set] = row.config.dataset.label
    if not panels:
        return None
    return SpreadFigure(
        id=f"{'_'.join(grid.name for grid in grids)}_{KIND}" if len(grids) < 3 else KIND,
        title="How much rows vary from seed to seed",
        panels=tuple(_panel(labels[key], found) for key, found in panels.items()),
    )


def _panel(label: str, rows: Sequence[Runs]) -> SpreadPanel:
    pool = verdicts.pool(rows)
    assert pool
    fits = f"phi = {pool.phi:.2g}, {pool.degrees} degrees of freedom, p = {pool.fit:.2g} (Bartlett)"
    points = []
    for runs in rows:
        deviation = max(statistics.stdev(runs.errors), runs.rounding**0.5)
        points.append((runs.mean, deviation, len(runs.errors)))
    return SpreadPanel(
        title=f"{label}: {fits}", num_test=rows[0].num_test, phi=pool.phi, rows=tuple(sorted(points))
    )
