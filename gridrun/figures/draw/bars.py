"""Horizontal bars with the median of each at its foot."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.axes import Axes

from gridrun.figures.draw.style import HATCHES, HOLLOW, medians, series_color, whiskers, wrapped
from gridrun.figures.model import CROSS, Figure, Panel, Point
from gridrun.text import format_hundredths

Bar = tuple[float, int]
"""Index of its name, and of its series."""
LABEL_SIZE = 7


def draw_bars(figure: Figure, panel: Panel, axes: Axes) -> None:
    """Draw a panel's bars, and a diamond for each published value."""
    thickness = 0.8 / max_beside(panel)
    heights = _heights(panel, thickness)
    for series in panel.series:
        points = [point for point in series.points if point.median is not None]
        at = [heights[point.x, series.index] for point in points]
        if series.role == "published":
            axes.plot(medians(points), at, zorder=5, **HOLLOW)
            continue
        axes.barh(
            at,
            medians(points),
            height=0.92 * thickness,
            color=series_color(figure, series.index),
            edgecolor="white",
            hatch=HATCHES[series.index % len(HATCHES)],
            linewidth=0,
            xerr=whiskers(points),
            error_kw={"elinewidth": 1, "capsize": 2.5},
        )
        for point in series.points:  # left of the axis, where no other mark can stand beside the number
            axes.annotate(
                bar_label(point),
                (0, heights[point.x, series.index]),
                (-3, 0),
                xycoords=axes.get_yaxis_transform(),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=LABEL_SIZE,
            )
    names = figure.x.names
    axes.set_yticks(range(len(names)), [wrapped(name, 38) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    longest = max(len(bar_label(point)) for other in figure.panels for _, point in _measured(other))
    axes.tick_params(axis="y", length=0, pad=0.62 * LABEL_SIZE * longest + 8)


def max_beside(panel: Panel) -> int:
    """Return how many bars one name has at most."""
    xs = [x for (x, _), _ in _measured(panel)]
    return max(map(xs.count, xs))


def _measured(panel: Panel) -> Iterable[tuple[Bar, Point]]:
    for series in panel.series:
        if series.role == "measured":
            yield from (((point.x, series.index), point) for point in series.points)


def _heights(panel: Panel, thickness: float) -> dict[Bar, float]:
    """Return where each bar stands: those of one name side by side around it, without gaps."""
    beside: dict[float, list[int]] = {}
    for (x, index), _ in _measured(panel):
        beside.setdefault(x, []).append(index)
    return {
        (x, index): x + thickness * (rank - (len(indexes) - 1) / 2)
        for x, indexes in beside.items()
        for rank, index in enumerate(sorted(indexes))
    }


def bar_label(point: Point) -> str:
    """Return the text beside a bar: its median last, next to the bar, and before it what is missing."""
    if point.diverged:
        missing = f"{CROSS} {point.diverged}/{point.wanted} diverged"
    elif point.n < point.wanted:
        missing = f"({point.n}/{point.wanted} runs)" if point.n else "not run"
    else:
        missing = ""
    if point.median is None:
        return missing
    median = format_hundredths(point.median) if point.median < 100 else f"{point.median:,.0f}"
    return f"{missing} {median}".strip()
