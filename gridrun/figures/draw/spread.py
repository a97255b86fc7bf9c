"""Rows' own standard deviations against the one that they share."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullLocator

from gridrun.figures.colors import COLORS
from gridrun.figures.draw.style import GREY, wrapped
from gridrun.figures.spread import SpreadFigure, SpreadPanel

STEPS = 60


def draw_spread(figure: SpreadFigure) -> Canvas:
    """Draw one panel below the other: mean error to the right, standard deviation upward, both in %."""
    canvas = Canvas(figsize=(7.4, 1.2 + 2.8 * len(figure.panels)))
    grid = canvas.subplots(len(figure.panels), 1, squeeze=False)
    for panel, axes in zip(figure.panels, grid.flat, strict=True):
        _draw_panel(panel, axes)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    canvas.suptitle(wrapped(figure.title, 80))
    return canvas


def _draw_panel(panel: SpreadPanel, axes: Axes) -> None:
    errors = [error for error, _, _ in panel.rows]
    axes.plot(
        [100 * error for error in errors],
        [100 * deviation for _, deviation, _ in panel.rows],
        linestyle="",
        marker="o",
        color=COLORS[0],
        alpha=0.7,
        label="a row's own",
    )
    low, high = math.log(0.8 * min(errors)), math.log(min(1.25 * max(errors), 0.99))
    at = [math.exp(low + (high - low) * step / STEPS) for step in range(STEPS + 1)]
    for phi, label, color, dashes in (
        (panel.phi, "shared by all rows", COLORS[1], "-"),
        (1.0, "binomial (phi = 1)", GREY, (0, (5, 2))),
    ):
        deviations = [100 * math.sqrt(phi * p * (1 - p) / panel.num_test) for p in at]
        axes.plot([100 * p for p in at], deviations, color=color, linestyle=dashes, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_locator(NullLocator())
    axes.set_title(panel.title)
    axes.set_xlabel("Mean Test Error (%)")
    axes.set_ylabel("Standard deviation (points)")
