"""Horizontal bars, their names beside them and their values behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from matplotlib.axes import Axes

from gridrun.figures.draw.style import HATCHES, HOLLOW, color, values, whiskers, wrapped
from gridrun.figures.draw.ticks import has_values, mark_values
from gridrun.figures.model import CROSS, Figure, Panel, Point
from gridrun.text import format_hundredths

Place = tuple[float, int]
"""A name's index, and the series'."""


def draw_bars(figure: Figure, panel: Panel, axes: Axes) -> None:
    """Draw a panel's bars, and a diamond for what is published."""
    ours, theirs = dict(_points(panel, "measured")), dict(_points(panel, "published"))
    thick = 0.8 / max_beside(panel)
    heights = _heights(ours, thick)
    if figure.y.log:
        axes.set_xscale("log")
    for place, point in ours.items():
        if point.median is not None:
            _draw_bar(figure, place[1], point, heights[place], thick, axes)
        if published := theirs.get(place):
            axes.plot(values([published]), [heights[place]], zorder=5, **HOLLOW)
        end = max(one.high or 0.0 for one in (point, theirs.get(place, point)))
        axes.annotate(
            _said(point), (end, heights[place]), (6, 0), textcoords="offset points", va="center", fontsize=7
        )
    names = figure.x.names
    axes.set_yticks(range(len(names)), [wrapped(name, 38) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08 + 0.014 * max(len(_said(point)) for point in ours.values()))
    if not has_values(figure):
        axes.set_xlim(0, 1)
    mark_values(axes.xaxis, figure.y.log)


def max_beside(panel: Panel) -> int:
    """Return how many bars one name has at most."""
    xs = [x for (x, _), _ in _points(panel, "measured")]
    return max(map(xs.count, xs))


def _points(panel: Panel, role: str) -> Iterator[tuple[Place, Point]]:
    for series in panel.series:
        for point in series.points if series.role == role else ():
            yield (point.x, series.index), point


def _heights(points: Iterable[Place], thick: float) -> dict[Place, float]:
    """Return where each bar stands: those of a name side by side around it, without gaps."""
    beside: dict[float, list[int]] = {}
    for x, index in points:
        beside.setdefault(x, []).append(index)
    return {
        (x, index): x + thick * (rank - (len(indexes) - 1) / 2)
        for x, indexes in beside.items()
        for rank, index in enumerate(sorted(indexes))
    }


def _draw_bar(figure: Figure, index: int, point: Point, height: float, thick: float, axes: Axes) -> None:
    axes.barh(
        height,
        point.median or 0.0,
        height=0.92 * thick,
        color=color(figure, index),
        edgecolor="white",
        hatch=HATCHES[index % len(HATCHES)],
        linewidth=0,
    )
    if point.n > 1:
        axes.errorbar(
            values([point]),
            [height],
            xerr=whiskers([point]),
            fmt="none",
            ecolor="black",
            elinewidth=1,
            capsize=2.5,
        )


def _said(point: Point) -> str:
    """Return what stands behind a bar."""
    text = "" if point.median is None else _value(point.median)
    if point.diverged:
        text += f" {CROSS} {point.diverged} of {point.wanted} diverged"
    elif point.n < point.wanted:
        text += f" ({point.n} of {point.wanted} runs)" if point.n else "not run"
    return text.strip()


def _value(median: float) -> str:
    """Write a median as tables write errors, or a large number whole."""
    return format_hundredths(median) if median < 100 else f"{median:,.0f}"
