"""Where an axis has ticks, and how they are labelled."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection

from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator

from gridrun.figures import model
from gridrun.text import format_option

ROUND_STEPS = [1, 2, 5, 10]


def set_metric_ticks(axis: Axis, log: bool) -> None:
    """Put round numbers along a metric's axis, also on a logarithmic one of less than a decade."""
    low, high = axis.get_view_interval()
    subs = (1, 2, 3, 4, 5, 7) if high < 20 * low else (1, 2, 5)
    axis.set_major_locator(LogLocator(subs=subs, numticks=12) if log else MaxNLocator(7, steps=ROUND_STEPS))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(format_tick)


def set_epoch_ticks(axis: Axis, epochs: Collection[float]) -> None:
    """Label round numbers of epochs, and the last one."""
    last = max(epochs, default=1)
    values = MaxNLocator(integer=True, min_n_ticks=1).tick_values(0, last)
    round_ones = [value for value in values if 0 <= value < last - 0.07 * last]
    axis.set_major_locator(FixedLocator([*round_ones, last]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(format_tick)


def set_option_ticks(axis: Axis, option: model.Axis, inches: float) -> None:
    """Label an option's values where they fit side by side on so many inches, else round numbers."""
    values = option.ticks
    positions = [math.log(value) for value in values] if option.log else list(values)
    gaps = [after - before for before, after in itertools.pairwise(positions)]
    most = int(inches / (0.07 * max(len(format_tick(value)) for value in values) + 0.06))  # labels that fit
    decades = math.log10(values[-1] / values[0]) if option.log else 0.0
    if not gaps or min(gaps) * most >= sum(gaps):
        axis.set_major_locator(FixedLocator(values))
    elif option.log and max(gaps) <= 1.01 * min(gaps):  # powers of one number: every second, or third
        axis.set_major_locator(FixedLocator(values, nbins=most))
    elif decades >= 1:
        subs = (1, 2, 5) if 3.4 * decades <= most else (1,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=most + 1))
    else:  # on a logarithmic axis, even steps stand closer towards its end
        axis.set_major_locator(MaxNLocator(max(1, most // 3) if option.log else most, steps=ROUND_STEPS))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(format_tick)


def format_tick(value: float, _: object = None) -> str:
    """Write a tick's value as tables write options: `0.1`, `5e-4`, `1024`."""
    return format_option(float(f"{value:.6g}"))
