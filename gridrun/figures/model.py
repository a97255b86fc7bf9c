"""What a figure shows, as numbers and labels: `build` makes it, `draw` draws it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from gridrun.grid.plot_specs import Kind
from gridrun.trial import digest

FORMATS = ("png", "svg", "pdf")
CROSS = "\N{MULTIPLICATION SIGN}"
"""Marks runs that diverged."""


class Drawable(Protocol):
    """What `draw.save` makes a file of."""

    @property
    def id(self) -> str:
        """Name of its files."""

    @property
    def title(self) -> str:
        """Its heading."""

    @property
    def digest(self) -> str:
        """Hash of all that is shown. It changes with the data alone, never with the style."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One point of a series, in the units of its axes."""

    x: float
    """For bars, the index in `Axis.names`."""
    median: float | None
    """None if no run has a value."""
    low: float | None
    high: float | None
    n: int
    """Runs that the median is of."""
    wanted: int
    """Runs the grid asks for."""
    diverged: int = 0
    """How many of those diverged. They give no value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One line, one curve, or the bars of one colour."""

    role: Literal["measured", "published", "diverged"]
    """diverged: the curve of one run, up to its last finite value."""
    index: int
    """Of its label in `Figure.labels`. Measured and published values of one label share it."""
    metric: str
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One pair of axes."""

    title: str
    series: tuple[Series, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """An x axis (an option, or epochs) or a y axis (a metric). Bars are drawn with the two swapped."""

    label: str
    """With its unit."""
    log: bool = False
    ticks: tuple[float, ...] = ()
    """The values of the option, in order. Empty for a metric and for epochs."""
    names: tuple[str, ...] = ()
    """Names of the bars, from top to bottom."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A figure, complete except for its style."""

    id: str
    title: str
    kind: Kind
    x: Axis
    y: Axis
    legend: str
    """The option whose values the labels are. Empty if the labels name their options."""
    labels: tuple[str, ...]
    ordered: bool
    """Whether the labels are numbers, in order."""
    metrics: Mapping[str, str]
    """Label of each metric, if the figure shows several."""
    panels: tuple[Panel, ...]
    notes: tuple[str, ...]
    """Lines below the figure, such as `not run yet: 3 of 18 runs`."""

    @property
    def digest(self) -> str:
        """Hash of all that is shown. It changes with the data alone, never with the style."""
        return digest(dataclasses.asdict(self))

    @property
    def is_empty(self) -> bool:
        """Whether there is no run to show. Published values do not count."""
        return not any(
            point.n or point.diverged
            for panel in self.panels
            for series in panel.series
            if series.role != "published"
            for point in series.points
        )
