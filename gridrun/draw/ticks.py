"""Where an axis is marked."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from gridrun.columns import format_option
from gridrun.figures import Axis, Figure


def mark_values(axis: Any, log: bool) -> None:
    """Put a measure's ticks: plain numbers, also on a logarithmic axis of less than a decade."""
    low, high = axis.get_view_interval()
    subs = (1, 2, 3, 4, 5, 7) if high < 20 * low else (1, 2, 5)
    axis.set_minor_locator(NullLocator())
    axis.set_major_locator(LogLocator(subs=subs, numticks=12) if log else MaxNLocator(7, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(plain))


def plain(value: float, _: object = None) -> str:
    """Write a tick's value."""
    return format_option(float(f"{value:.6g}"))


def apart(axis: Axis, inches: float) -> list[float]:
    """Return the ticks whose labels do not run into each other, from the largest down."""
    at = [math.log(tick) if axis.log else tick for tick in axis.ticks]
    span = (at[-1] - at[0]) or 1.0
    kept: list[float] = []
    left = math.inf
    for tick, place in reversed(list(zip(axis.ticks, at, strict=True))):
        half = 0.038 * len(plain(tick)) + 0.03
        middle = (place - at[0]) / span * inches
        if middle + half <= left:
            kept.append(tick)
            left = middle - half
    return kept


def whole(axis: Axis) -> tuple[float, float]:
    """Return limits that hold every value of an axis, also those at which nothing ran."""
    low, high = axis.ticks[0], axis.ticks[-1]
    if axis.log:
        room = (high / low) ** 0.04 if high > low else 2.0
        return low / room, high * room
    pad = 0.04 * (high - low) or 0.5
    return low - pad, high + pad


def has_values(figure: Figure) -> bool:
    """Tell whether a figure has a value other than 0, from which an axis can take its limits."""
    return any(point.high for panel in figure.panels for series in panel.series for point in series.points)
