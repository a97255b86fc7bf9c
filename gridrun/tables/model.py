"""A table as data: lines, cells and notes, before any layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pandas import DataFrame

    from gridrun.grid.table_specs import Spread


TrialRow = Mapping[str, Any]
"""A trial as the store's row (`Record.row`)."""


Verdict = Literal["within spread", "differs", "too few runs"]
"""Whether a published value lies between our lowest and highest run, both as printed."""


MIN_RUNS_OF_A_VERDICT = 3
"""Two runs are hardly a spread."""


LARGEST = 1e100
"""Beyond what float32 can measure; its square is still finite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One metric of one line, in the unit of the store: errors are fractions, times seconds."""

    values: Mapping[int, float]
    """By seed, of the trials that are done."""
    n: int
    wanted: int
    """Seeds the grid asks for."""
    median: float | None
    """EndedTrial `values`; of an even count the mean of the middle two. None where nothing ran."""
    low: float | None
    high: float | None
    std: float | None
    """Of the sample (n - 1); None below two values."""
    published: float | None
    """None where nothing is published, or not as one number."""
    published_text: str | None
    """As printed."""
    published_runs: int | None
    difference: float | None
    """Errors only: median - published."""
    verdict: Verdict | None
    """Errors only; None where there is nothing to compare."""


def number(value: Any) -> float | None:
    """Return a measured value, None where there is none, or none that could have been measured.

    A column of a data frame has NaN there, a damaged file anything.
    """
    return value if isinstance(value, (int, float)) and 0 <= value <= LARGEST else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One config of a table, or a row that is only reported elsewhere."""

    config_id: str
    """Empty where no trial stands behind the line."""
    name: str | None
    options: Mapping[str, Any]
    """Value by config column."""
    cells: Mapping[str, Cell]
    """By metric column."""
    trials: Mapping[int, str]
    """Trial id by seed; of the seeds below, each is in exactly one."""
    done: tuple[int, ...]
    diverged: tuple[int, ...]
    failed: tuple[int, ...]
    missing: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table, whole but for its layout."""

    id: str
    title: str
    columns: tuple[str, ...]
    """Names of config options and of `METRICS`, in order."""
    lines: tuple[Line, ...]
    mixed_hardware: bool
    """Times and the like do not compare within the table."""
    notes: tuple[str, ...]
    """What a reader must know beyond the numbers."""
    headers: Mapping[str, str]
    """Of config columns, where they are not the usual ones."""
    spread: Spread | None
    """What cells show of their runs beside the median."""

    @property
    def runs(self) -> int | None:
        """Number of seeds that every row asks for; None where the rows ask for different numbers."""
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

    def to_markdown(self) -> str:
        """Return the table as a README has it."""
        from gridrun.tables.render import to_markdown

        return to_markdown(self)

    def to_frame(self) -> DataFrame:
        """Return the table as a data frame (`gridrun.frames.table_frame` says which columns it has)."""
        from gridrun.notebook import table_frame

        return table_frame(self)

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return self.to_markdown()
