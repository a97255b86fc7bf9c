"""Colours, markers and dashes: series differ for the colour-blind too, and in grey print."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib

from gridrun.figures.colors import COLORS
from gridrun.figures.model import Figure, Point

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "oooo", "----")
GREY = "#595959"
"""The colour of notes and of legend entries that belong to no one series."""
PUBLISHED: dict[str, Any] = {
    "markerfacecolor": "white",
    "markersize": 6,
    "linestyle": (0, (1, 2)),
    "linewidth": 1.0,
    "alpha": 0.85,
}
HOLLOW: dict[str, Any] = {
    "marker": "D",
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "markersize": 4.5,
    "linestyle": "",
}
DIVERGED: dict[str, Any] = {
    "marker": "x",
    "linestyle": "",
    "markersize": 6,
    "markeredgewidth": 1.6,
    "clip_on": False,
}


def series_color(figure: Figure, index: int) -> Any:
    """Return a series' colour: a shade of one scale where the labels are numbers in order."""
    if figure.ordered:
        return matplotlib.colormaps["viridis"](0.85 * index / (len(figure.labels) - 1))
    return COLORS[index % len(COLORS)]


def series_style(figure: Figure, index: int, metric: str = "") -> dict[str, Any]:
    """Return a series' colour, marker and dashes; the curves of one label differ by their dashes."""
    metrics = list(figure.metrics)
    dash = metrics.index(metric) if metric in metrics else index
    return {
        "color": series_color(figure, index),
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[dash % len(DASHES)],
    }


def medians(points: Sequence[Point]) -> list[float]:
    """Return the medians; NaN, which leaves a gap, where no run has a value."""
    return [math.nan if point.median is None else point.median for point in points]


def whiskers(points: Sequence[Point]) -> list[list[float]]:
    """Return how far lowest and highest run are from the medians; NaN, drawn as nothing, below two runs."""
    spans = [
        (math.nan, math.nan)
        if point.median is None or point.low is None or point.high is None or point.n < 2
        else (point.median - point.low, point.high - point.median)
        for point in points
    ]
    return [[below for below, _ in spans], [above for _, above in spans]]


def wrapped(text: str, width: float) -> str:
    """Break a text into lines of at most `width` characters."""
    return textwrap.fill(text, max(20, int(width)))
