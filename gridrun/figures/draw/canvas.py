"""A figure's canvas: its panels, and around them title, legend and notes."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gridrun.figures.draw.bars import draw_bars, max_beside
from gridrun.figures.draw.lines import draw_curves, draw_lines
from gridrun.figures.draw.style import (
    DIVERGED,
    GREY,
    HATCHES,
    HOLLOW,
    PUBLISHED,
    series_color,
    series_style,
    wrapped,
)
from gridrun.figures.draw.ticks import set_metric_ticks
from gridrun.figures.model import Figure, Panel

DRAW = {"bars": draw_bars, "line": draw_lines, "curves": draw_curves}


def draw(figure: Figure) -> Canvas:
    """Draw a figure, by the current rcParams."""
    columns = {1: 1, 2: 2, 4: 2}.get(len(figure.panels), 3 if len(figure.panels) <= 9 else 4)
    rows = -(-len(figure.panels) // columns)
    below, beside = (figure.y, figure.x) if figure.kind == "bars" else (figure.x, figure.y)
    canvas = Canvas(figsize=_size(figure, rows, columns))
    scales = {"xscale": "log" if below.log else "linear", "yscale": "log" if beside.log else "linear"}
    grid = canvas.subplots(rows, columns, sharex=True, sharey=True, squeeze=False, subplot_kw=scales)
    for axes in list(grid.flat)[len(figure.panels) :]:
        axes.remove()
    for index, (panel, axes) in enumerate(zip(figure.panels, grid.flat, strict=False)):
        _draw_panel(figure, panel, axes)
        last = index + columns >= len(figure.panels)
        axes.tick_params(labelbottom=last)
        if last or figure.kind == "bars":
            axes.set_xlabel(below.label)
        if index % columns == 0:
            axes.set_ylabel(beside.label)
    width = canvas.get_figwidth()
    canvas.suptitle(wrapped(figure.title, 12 * width))
    if handles := list(legend(figure)):
        canvas.legend(handles=handles, title=figure.legend or None, loc="outside right center", frameon=False)
    if figure.notes:
        notes = wrapped("; ".join(figure.notes), 18 * width)
        canvas.supxlabel(notes, x=0.01, ha="left", fontsize=7, color=GREY)
    return canvas


def _size(figure: Figure, rows: int, columns: int) -> tuple[float, float]:
    """Return width and height in inches."""
    if figure.kind == "bars":
        bars = len(figure.x.names) * max(map(max_beside, figure.panels))
        return 7.0 + 2.5 * (columns - 1), rows * (1.3 + 0.26 * bars)
    return (6.8, 3.9) if rows == columns == 1 else (1.6 + 2.7 * columns, 1.1 + 2.1 * rows)


def _draw_panel(figure: Figure, panel: Panel, axes: Axes) -> None:
    if panel.title:
        axes.set_title(wrapped(panel.title, 40))
    DRAW[figure.kind](figure, panel, axes)
    metric_axis = axes.xaxis if figure.kind == "bars" else axes.yaxis
    if not any(point.high for panel in figure.panels for series in panel.series for point in series.points):
        metric_axis.set_view_interval(0, 1, ignore=True)  # no value above 0, from which it could take limits
    set_metric_ticks(metric_axis, figure.y.log)


def legend(figure: Figure) -> Iterator[Line2D | Patch]:
    """Yield the entries of the legend; none for a lone series."""
    every = [series for panel in figure.panels for series in panel.series]
    if len(figure.labels) > 1:
        for index in sorted({series.index for series in every}):
            yield _handle(figure, index)
    for metric, label in figure.metrics.items():
        yield Line2D([], [], color=GREY, linestyle=series_style(figure, 0, metric)["linestyle"], label=label)
    if any(series.role == "published" for series in every):
        yield _published_handle(figure)
    if figure.kind != "bars" and any(point.diverged for series in every for point in series.points):
        yield Line2D([], [], color=GREY, label="diverged", **DIVERGED)


def _handle(figure: Figure, index: int) -> Line2D | Patch:
    label = wrapped(figure.labels[index], 30)
    if figure.kind == "bars":
        hatch = HATCHES[index % len(HATCHES)]
        return Patch(
            facecolor=series_color(figure, index), edgecolor="white", hatch=hatch, linewidth=0, label=label
        )
    style = series_style(figure, index)
    if figure.metrics:  # there, dashes tell the metric
        style["linestyle"] = "-"
    return Line2D([], [], label=label, **style)


def _published_handle(figure: Figure) -> Line2D:
    if figure.kind == "bars":
        return Line2D([], [], label="published", **HOLLOW)
    dotted = "" if figure.kind == "curves" or len(figure.labels) > 4 else PUBLISHED["linestyle"]
    return Line2D([], [], color=GREY, marker="o", label="published", **{**PUBLISHED, "linestyle": dotted})
