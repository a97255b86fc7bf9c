"""A table as data: its lines, cells and notes, before it becomes text."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gridrun.grid.table_specs import Spread
    from gridrun.verdicts import Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Against:
    """What a cell differs by from that of the row it is compared with."""

    median: float
    """Of the other row."""
    difference: float
    half_width: float | None = None
    """Half the 95 % interval of the difference of the errors; None where nobody can tell."""
    verdict: Verdict | None = None
    more_seeds: int | None = None
    """How many more of both rows would settle an open verdict if the difference stayed; None: too many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One metric of one line, in the store's unit: errors are fractions, times seconds."""

    values: Mapping[int, float]
    """By seed, of the trials that are done."""
    n: int
    """Number of `values`."""
    wanted: int
    """Number of seeds the grid asks for."""
    median: float | None
    """Of `values`; None where there are none."""
    low: float | None
    high: float | None
    std: float | None
    """Of the sample (n - 1); None for fewer than two values."""
    published: float | None
    """None where nothing is published, or no single number."""
    published_text: str | None
    """As printed."""
    published_runs: int | None
    difference: float | None
    """Errors only: median - published."""
    half_width: float | None = None
    """Half the 95 % interval of the difference; None where nobody can tell."""
    verdict: Verdict | None = None
    """Test errors only; None where there is nothing to compare, or too few runs to tell."""
    more_seeds: int | None = None
    """How many more would settle an open verdict if the difference stayed; None: too many."""

    against: Against | None = None
    """Test errors of a table that compares rows; None where there is no other row, or it has no runs."""
    is_best: bool | None = None
    """Whether it is the lowest error or cannot be told from it; None where nobody has compared."""

    @property
    def mean(self) -> float | None:
        """Of `values`; None where there are none."""
        return statistics.fmean(self.values.values()) if self.values else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pivot:
    """Two options and a metric: one line for each value of `rows`, one column for each value of `columns`."""

    rows: str
    columns: str
    metric: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One config of a table, or a row that is only reported elsewhere."""

    config_id: str
    """Empty for a row that is only reported elsewhere."""
    name: str | None
    options: Mapping[str, Any]
    """Value by config column."""
    cells: Mapping[str, Cell]
    """By metric column."""
    trials: Mapping[int, str] = field(default_factory=dict)
    """Trial id by seed. Each seed is in exactly one of the four tuples below."""
    done: tuple[int, ...] = ()
    diverged: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A whole table: what it shows, not how it looks."""

    id: str
    title: str
    columns: tuple[str, ...]
    """Names of config options and of `METRICS`, in order."""
    lines: tuple[Line, ...]
    mixed_hardware: bool
    """Whether the trials ran on different hardware, or some compiled, so that times do not compare."""
    notes: tuple[str, ...]
    """What a reader must know beyond the numbers."""
    published_notes: tuple[str, ...]
    """Those of them that are about published values and rows."""
    headers: Mapping[str, str]
    """Headers of config columns that differ from the usual ones."""
    spread: Spread | None
    """What cells show of their runs beside the median, or `mean`: the mean and the standard deviation."""
    compared_with: str | None = None
    """What rows are compared with, such as `no cutout`; None: nothing."""
    pivot: Pivot | None = None
    """How the lines are laid out as a matrix; None: one below the other, with a column for each option."""
    held_out: bool = False
    """Whether test metrics are those of images held out of the training set, and are called so."""

    @property
    def runs(self) -> int | None:
        """Number of seeds of every row; None where rows ask for different numbers."""
        numbers = {len(line.trials) for line in self.lines if line.trials}
        return numbers.pop() if len(numbers) == 1 else None

    @property
    def published(self) -> tuple[str, ...]:
        """Metric columns for which some line has a published value."""
        return tuple(
            column
            for column in self.columns
            if any(column in line.cells and line.cells[column].published_text for line in self.lines)
        )
