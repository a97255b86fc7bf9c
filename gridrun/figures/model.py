"""What a figure shows, as numbers and words: what `plots` makes and `draw` draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gridrun.grid.plot_specs import Kind
from gridrun.trial import digest

FORMATS = ("png", "svg", "pdf")
CROSS = "\N{MULTIPLICATION SIGN}"
"""Stands for runs that diverged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One place along a series, in the unit of its axis."""

    x: float
    """Of bars, the index of the name."""
    median: float | None
    """None where no run has a value."""
    low: float | None
    high: float | None
    n: int
    """Runs behind it."""
    wanted: int
    """Runs the grid asks for."""
    diverged: int = 0
    """Runs of those that diverged; they give no value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """What one line, or the bars of one colour, shows."""

    role: Literal["measured", "published", "diverged"]
    """diverged: one run as far as its figures are finite, over epochs."""
    index: int
    """Of its label in `Figure.labels`; what belongs together has one."""
    metric: str
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One pair of axes."""

    title: str
    series: tuple[Series, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """What stands along an axis, with its unit."""

    label: str
    log: bool = False
    ticks: tuple[float, ...] = ()
    """Values worth marking; empty: any."""
    names: tuple[str, ...] = ()
    """Of bars."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A figure, whole but for its looks."""

    id: str
    title: str
    kind: Kind
    x: Axis
    y: Axis
    legend: str
    """What the labels are values of; empty where they say so themselves."""
    labels: tuple[str, ...]
    ordered: bool
    """The labels are numbers in order."""
    metrics: Mapping[str, str]
    """What the curves of one label show, in words, where they show several."""
    panels: tuple[Panel, ...]
    notes: tuple[str, ...]
    """What a reader must know beyond the numbers."""

    @property
    def digest(self) -> str:
        """Id of all that is shown: it changes with the data alone."""
        return digest(dataclasses.asdict(self))

    @property
    def is_empty(self) -> bool:
        """No run stands behind it, whatever is published."""
        return not any(
            point.n or point.diverged
            for panel in self.panels
            for series in panel.series
            if series.role != "published"
            for point in series.points
        )
