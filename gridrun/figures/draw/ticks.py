"""Where an axis is marked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from gridrun.figures.model import Axis, Figure
from gridrun.text import format_option


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


def marks(axis: Axis, inches: float) -> Sequence[float]:
    """Return the values along an axis of options that are labelled, so that no label runs into another.

    All of them where there is room. Else every second or third of evenly spaced ones, and round numbers
    in place of others: some of them, with gaps where there was no room, would say nothing.
    """
    return next(ticks for ticks in _choices(axis) if _fit(axis, ticks, inches))


def _choices(axis: Axis) -> Iterator[Sequence[float]]:
    """Yield what may be labelled, from many values to one."""
    values, (low, high) = axis.ticks, (axis.ticks[0], axis.ticks[-1])
    yield values
    if _is_even([_place(axis, value) for value in values]):
        yield from (values[::-step] for step in range(2, len(values)))
    elif axis.log and high >= 10 * low:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = [(1, (1, 2, 5)), (1, (1, 3)), *((step, (1,)) for step in range(1, len(decades)))]
        for step, digits in steps:
            rounded = [float(f"{digit}e{decade}") for decade in decades[::step] for digit in digits]
            yield [value for value in rounded if low <= value <= high]
    else:
        for number in range(10, 1, -1):
            found = MaxNLocator(number, steps=[1, 2, 5, 10]).tick_values(low, high)
            yield [float(value) for value in found if low <= value <= high]
    yield (high,)


def _fit(axis: Axis, ticks: Sequence[float], inches: float) -> bool:
    """Return whether labels find room side by side; without any, there is nothing to read."""
    span = _place(axis, axis.ticks[-1]) - _place(axis, axis.ticks[0]) or 1.0
    middles = [_place(axis, tick) / span * inches for tick in sorted(ticks)]
    halves = [0.038 * _width(plain(tick)) + 0.03 for tick in sorted(ticks)]
    pairs = itertools.pairwise(zip(middles, halves, strict=True))
    return bool(ticks) and all(after - before >= half + other for (before, half), (after, other) in pairs)


def _width(text: str) -> float:
    """Return the width of a number, in digits."""
    return len(text) - 0.5 * text.count(".")


def _is_even(places: Sequence[float]) -> bool:
    gaps = [after - before for before, after in itertools.pairwise(places)]
    return len(gaps) > 1 and max(gaps) <= 1.01 * min(gaps)


def _place(axis: Axis, value: float) -> float:
    return math.log(value) if axis.log else value


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
