"""A table's cell: the median over the seeds beside what was published, and whether the two agree."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gridrun.columns import METRICS, Metric, parse_runs

if TYPE_CHECKING:
    from gridrun.grid import Published

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
    """Over `values`; of an even count the mean of the middle two. None where nothing ran."""
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


def make_cell(column: str, found: Mapping[int, TrialRow], wanted: int, published: Published | None) -> Cell:
    """Gather one metric of one line.

    Args:
        column: one of `METRICS`.
        found: by seed, the trials of the line that are done.
        wanted: seeds the grid asks for.
        published: what is reported elsewhere for the line.
    """
    metric = METRICS[column]
    measured = [(seed, number(record.get(metric.record))) for seed, record in found.items()]
    values = {seed: value for seed, value in measured if value is not None}
    ours = sorted(values.values())
    median = statistics.median(ours) if ours else None
    given = published.values.get(column) if published else None
    theirs = None if given is None else metric.parse(given)
    text = given if isinstance(given, str) else None if theirs is None else metric.format(theirs)
    runs = published.runs if published and text else None
    return Cell(
        values=values,
        n=len(ours),
        wanted=wanted,
        median=median,
        low=ours[0] if ours else None,
        high=ours[-1] if ours else None,
        std=_deviation(ours) if len(ours) > 1 else None,
        published=theirs,
        published_text=text,
        published_runs=(parse_runs(text) or runs) if text else None,
        difference=median - theirs if metric.is_error and median is not None and theirs is not None else None,
        verdict=_verdict(metric, ours, theirs) if metric.is_error and ours and theirs is not None else None,
    )


def _deviation(values: Sequence[float]) -> float:
    """Return the sample's standard deviation, a hundred times as fast as the exact `statistics.stdev`."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _verdict(metric: Metric, ours: Sequence[float], theirs: float) -> Verdict:
    if len(ours) < MIN_RUNS_OF_A_VERDICT:
        return "too few runs"
    low, published, high = (float(metric.format(value)) for value in (min(ours), theirs, max(ours)))
    return "within spread" if low <= published <= high else "differs"


def number(value: Any) -> float | None:
    """Return a measured value, None where there is none, or none that could have been measured.

    A column of a data frame has NaN there, a damaged file anything.
    """
    return value if isinstance(value, (int, float)) and 0 <= value <= LARGEST else None
