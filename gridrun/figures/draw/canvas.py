"""A figure's panels, title, legend and notes on one canvas."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gridrun.figures.draw.bars import draw_bars, max_beside
from gridrun.figures.draw.lines import draw_lines
from gridrun.figures.draw.style import DIVERGED, GREY, HATCHES, HOLLOW, PUBLISHED, color, look, wrapped
from gridrun.figures.model import Figure, Panel


def draw(figure: Figure) -> Canvas:
    """Draw a figure, in the style that is set."""
    columns = {1: 1, 2: 2, 4: 2}.get(len(figure.panels), 3 if len(figure.panels) <= 9 else 4)
    rows = -(-len(figure.panels) // columns)
    canvas = Canvas(figsize=_size(figure, rows, columns))
    grid = canvas.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    used = list(zip(figure.panels, grid.flat, strict=False))
    for axes in list(grid.flat)[len(used) :]:
        axes.remove()
    for index, (panel, axes) in enumerate(used):
        _draw_panel(figure, panel, axes)
        last = index + columns >= len(used)
        axes.tick_params(labelbottom=last)
        if last or figure.kind == "bars":
            axes.set_xlabel(figure.y.label if figure.kind == "bars" else figure.x.label)
        if index % columns == 0:
            axes.set_ylabel(figure.x.label if figure.kind == "bars" else figure.y.label)
    width = canvas.get_figwidth()
    canvas.suptitle(wrapped(figure.title, 12 * width))
    if handles := list(legend(figure)):
        canvas.legend(handles=handles, title=figure.legend or None, loc="outside right center", frameon=False)
    if figure.notes:
        notes = wrapped("; ".join(figure.notes), 18 * width)
        canvas.supxlabel(notes, x=0.01, ha="left", fontsize=7, color=GREY)
    return canvas


def _size(figure: Figure, rows: int, columns: int) -> tuple[float, float]:
    """Return width and height, inches."""
    if figure.kind == "bars":
        bars = len(figure.x.names) * max(map(max_beside, figure.panels))
        return 7.0 + 2.5 * (columns - 1), rows * (1.3 + 0.26 * bars)
    return (6.8, 3.9) if rows == columns == 1 else (1.6 + 2.7 * columns, 1.1 + 2.1 * rows)


def _draw_panel(figure: Figure, panel: Panel, axes: Axes) -> None:
    if panel.title:
        axes.set_title(wrapped(panel.title, 40))
    (draw_bars if figure.kind == "bars" else draw_lines)(figure, panel, axes)


def legend(figure: Figure) -> Iterator[Line2D | Patch]:
    """Yield what says which series is which; nothing where there is only one."""
    every = [series for panel in figure.panels for series in panel.series]
    shown = sorted({series.index for series in every})
    if len(figure.labels) > 1:
        for index in shown:
            yield _handle(figure, index)
    for metric, said in figure.metrics.items():
        yield Line2D([], [], color=GREY, linestyle=look(figure, 0, metric)["linestyle"], label=said)
    if any(series.role == "published" for series in every):
        yield _published_handle(figure)
    if figure.kind != "bars" and any(point.diverged for series in every for point in series.points):
        yield Line2D([], [], color=GREY, label="diverged", **DIVERGED)


def _handle(figure: Figure, index: int) -> Line2D | Patch:
    label = wrapped(figure.labels[index], 30)
    if figure.kind == "bars":
        hatch = HATCHES[index % len(HATCHES)]
        return Patch(facecolor=color(figure, index), edgecolor="white", hatch=hatch, linewidth=0, label=label)
    shown = look(figure, index)
    if figure.metrics:
        shown["linestyle"] = "-"
    return Line2D([], [], label=label, **shown)


def _published_handle(figure: Figure) -> Line2D:
    if figure.kind == "bars":
        return Line2D([], [], label="published", **HOLLOW)
    dotted = "" if figure.kind == "curves" or len(figure.labels) > 4 else PUBLISHED["linestyle"]
    return Line2D([], [], color=GREY, marker="o", label="published", **{**PUBLISHED, "linestyle": dotted})
