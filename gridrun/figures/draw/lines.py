"""Lines over an option, and learning curves over epochs."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from gridrun.figures.draw.style import (
    DIVERGED,
    GREY,
    PUBLISHED,
    medians,
    series_color,
    series_style,
    whiskers,
)
from gridrun.figures.draw.ticks import set_epoch_ticks, set_metric_ticks, set_option_ticks
from gridrun.figures.model import CROSS, Figure, Panel, Series

SIDE_BY_SIDE = 3.0
"""Points between the whiskers of two lines at one place."""


def draw_lines(figure: Figure, panel: Panel, axes: Axes) -> None:
    """Draw a panel's lines, with a cross on the upper edge for each point that diverged."""
    set_option_ticks(axes.xaxis, figure.x, inches=2.6 if len(figure.panels) > 1 else 4.8)
    measured = [series.index for series in panel.series if series.role == "measured"]
    for series in panel.series:
        place = measured.index(series.index) - (len(measured) - 1) / 2 if series.index in measured else 0.0
        _draw_line(figure, series, axes, min(SIDE_BY_SIDE, 12 / len(measured)) * place if measured else 0.0)
    axes.dataLim.intervalx = (figure.x.ticks[0], figure.x.ticks[-1])  # also values at which nothing ran
    _draw_crosses(figure, panel, axes)


def draw_curves(figure: Figure, panel: Panel, axes: Axes) -> None:
    """Draw a panel's curves over epochs."""
    for series in panel.series:
        _draw_curve(figure, series, axes)
    if figure.x.log:
        set_metric_ticks(axes.xaxis, log=True)
    else:
        set_epoch_ticks(axes.xaxis, [point.x for series in panel.series for point in series.points])


def _draw_line(figure: Figure, series: Series, axes: Axes, shift: float) -> None:
    """Draw a line. Its points and whiskers are `shift` points to the right, so that none hides another's."""
    xs = [point.x for point in series.points]
    ys = medians(series.points)
    style = series_style(figure, series.index)
    if series.role == "published":
        published = PUBLISHED if len(figure.labels) <= 4 else {**PUBLISHED, "linestyle": ""}
        axes.plot(xs, ys, **{**style, **published})
        return
    right = ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
    beside = {**style, "transform": axes.transData + right}
    axes.errorbar(xs, ys, yerr=whiskers(series.points), capsize=2.5, elinewidth=1, **beside)
    axes.update_datalim([at for at in zip(xs, ys, strict=True) if not math.isnan(at[1])])  # a shift hides it
    for point in series.points:
        if point.median is not None and point.n < point.wanted:
            axes.annotate(
                f"{point.n}/{point.wanted}",
                (point.x, point.median),
                (4, 4),
                textcoords="offset points",
                fontsize=6.5,
                color=GREY,
            )


def _draw_crosses(figure: Figure, panel: Panel, axes: Axes) -> None:
    """Draw a cross for each series that diverged on the upper edge, side by side, where no value can be."""
    diverged: dict[float, list[int]] = {}
    for series in panel.series:
        for point in series.points:
            if point.diverged:
                diverged.setdefault(point.x, []).append(series.index)
    for x, indexes in diverged.items():
        for place, index in enumerate(indexes):
            axes.annotate(
                CROSS,
                (x, 1),
                (8 * (place - (len(indexes) - 1) / 2), 0),
                xycoords=axes.get_xaxis_transform(),
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=13,
                fontweight="bold",
                color=series_color(figure, index),
            )


def _draw_curve(figure: Figure, series: Series, axes: Axes) -> None:
    xs = [point.x for point in series.points]
    ys = medians(series.points)
    style = series_style(figure, series.index, series.metric)
    if series.role == "published":
        axes.plot(xs, ys, clip_on=False, zorder=5, **{**style, **PUBLISHED, "linestyle": ""})
    elif series.role == "diverged":
        axes.plot(xs, ys, linewidth=0.8, color=style["color"], linestyle=style["linestyle"])
        axes.plot(xs[-1:], ys[-1:], color=style["color"], **DIVERGED)
    else:
        every = max(1, len(xs) // 8)
        # Series have their markers at different epochs, so that none hides another.
        start = (series.index * every) // len(figure.labels) if len(xs) > 8 else 0
        if len(figure.labels) == 1 and len(xs) > 1:
            style["marker"] = ""
        axes.plot(xs, ys, markevery=(start, every), markersize=4, **style)
        lows, highs = ([getattr(p, end) for p in series.points] for end in ("low", "high"))
        axes.fill_between(xs, lows, highs, color=style["color"], alpha=0.18, linewidth=0)
