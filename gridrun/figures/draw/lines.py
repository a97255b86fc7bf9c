"""Lines and learning curves."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from gridrun.figures.draw.style import DIVERGED, GREY, PUBLISHED, color, look, values, whiskers
from gridrun.figures.draw.ticks import has_values, mark_values, marks, plain, whole
from gridrun.figures.model import CROSS, Figure, Panel, Series


def draw_lines(figure: Figure, panel: Panel, axes: Axes) -> None:
    """Draw a panel's lines, or its curves over epochs."""
    if figure.x.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    if figure.y.log:
        axes.set_yscale("log")
    if figure.kind == "line":
        ticks = marks(figure.x, 2.6 if len(figure.panels) > 1 else 4.8)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FuncFormatter(plain))
    elif figure.x.log:
        mark_values(axes.xaxis, log=True)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(x=0.04, y=0.07)
    draw = _draw_curve if figure.kind == "curves" else _draw_line
    for series in panel.series:
        draw(figure, series, axes)
    if figure.kind == "line":
        axes.set_xlim(whole(figure.x))
        _mark_diverged(figure, panel, axes)
    if not has_values(figure):
        axes.set_ylim(0, 1)
    mark_values(axes.yaxis, figure.y.log)


def _draw_line(figure: Figure, series: Series, axes: Axes) -> None:
    xs = [point.x for point in series.points]
    medians = values(series.points)
    shown = look(figure, series.index)
    if series.role == "published":
        published = PUBLISHED if len(figure.labels) <= 4 else {**PUBLISHED, "linestyle": ""}
        axes.plot(xs, medians, **{**shown, **published})
        return
    axes.errorbar(xs, medians, yerr=whiskers(series.points), capsize=2.5, elinewidth=1, **shown)
    for point in series.points:
        if point.median is not None and point.n < point.wanted:
            said = f"{point.n}/{point.wanted}"
            axes.annotate(
                said, (point.x, point.median), (4, 4), textcoords="offset points", fontsize=6.5, color=GREY
            )


def _mark_diverged(figure: Figure, panel: Panel, axes: Axes) -> None:
    """Put a cross for each series that diverged on the upper edge, where no value can stand."""
    at: dict[float, list[int]] = {}
    for series in panel.series:
        for point in series.points:
            if point.diverged:
                at.setdefault(point.x, []).append(series.index)
    for x, indexes in at.items():
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
                color=color(figure, index),
            )


def _draw_curve(figure: Figure, series: Series, axes: Axes) -> None:
    xs = [point.x for point in series.points]
    medians = values(series.points)
    shown = look(figure, series.index, series.metric)
    if series.role == "published":
        axes.plot(xs, medians, clip_on=False, zorder=5, **{**shown, **PUBLISHED, "linestyle": ""})
    elif series.role == "diverged":
        axes.plot(xs, medians, linewidth=0.8, color=shown["color"], linestyle=shown["linestyle"])
        axes.plot(xs[-1:], medians[-1:], color=shown["color"], **DIVERGED)
    else:
        every = max(1, len(xs) // 8)
        # Markers of different series at different epochs, so that none hides another.
        start = (series.index * every) // len(figure.labels) if len(xs) > 8 else 0
        if len(figure.labels) == 1 and len(xs) > 1:
            shown["marker"] = ""
        axes.plot(xs, medians, markevery=(start, every), markersize=4, **shown)
        lows, highs = ([getattr(p, end) for p in series.points] for end in ("low", "high"))
        axes.fill_between(xs, lows, highs, color=shown["color"], alpha=0.18, linewidth=0)
