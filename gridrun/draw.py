"""Figures to PNG, SVG and PDF by matplotlib: the only file that imports it.

Drawn without a screen and without the user's own settings, and with nothing of time or place in the
files: the same figure gives the same bytes. Each file names the digest of its figure.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from gridrun import files
from gridrun.columns import format_option
from gridrun.errors import StoreError
from gridrun.plots import CROSS, Axis, Figure, Panel, Point, Series

FORMATS = ("png", "svg", "pdf")
DIGEST = re.compile(rb"gridrun figure ([0-9a-f]{16})")

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
"""Okabe and Ito's, told apart by the colour-blind; their yellow is too pale on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "oooo", "----")
GREY = "#595959"
STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "figure.constrained_layout.use": True,
    "figure.titlesize": 11,
    "font.size": 9,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "savefig.dpi": 200,
    "svg.hashsalt": "gridrun",
    "text.parse_math": False,  # titles are no formulas
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


def save(figure: Figure, path: Path) -> None:
    """Draw a figure into a file of one of FORMATS, by its suffix, in one step.

    Raises:
        StoreError: the file cannot be written.
    """
    form = path.suffix.lstrip(".")
    with matplotlib.rc_context(), style.context(["default", STYLE]):
        canvas = _draw(figure)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.replacing(path) as partial:
                canvas.savefig(partial, format=form, metadata=_metadata(figure, form))
        except OSError as error:
            raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from None


def digest_in(path: Path) -> str | None:
    """Return the digest of the figure that a file shows, None where there is no such file."""
    try:
        found = DIGEST.search(path.read_bytes())
    except OSError:
        return None
    return found.group(1).decode() if found else None


def _metadata(figure: Figure, form: str) -> dict[str, Any]:
    named = f"gridrun figure {figure.digest}"
    match form:
        case "png":
            return {"Title": figure.title, "Description": named, "Software": None}
        case "svg":
            return {"Title": figure.title, "Description": named, "Date": None, "Creator": None}
        case _:
            return {"Title": figure.title, "Keywords": named, "CreationDate": None, "Creator": None}


# --- layout ------------------------------------------------------------------------------------


def _draw(figure: Figure) -> Canvas:
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
    canvas.suptitle(_wrapped(figure.title, 12 * width))
    if handles := list(_legend(figure)):
        canvas.legend(handles=handles, title=figure.legend or None, loc="outside right center", frameon=False)
    if figure.notes:
        notes = _wrapped("; ".join(figure.notes), 18 * width)
        canvas.supxlabel(notes, x=0.01, ha="left", fontsize=7, color=GREY)
    return canvas


def _size(figure: Figure, rows: int, columns: int) -> tuple[float, float]:
    """Return width and height, inches."""
    if figure.kind == "bars":
        bars = max(_bar_count(figure, panel) for panel in figure.panels)
        return 7.0 + 2.5 * (columns - 1), rows * (1.3 + 0.26 * bars)
    return (6.8, 3.9) if rows == columns == 1 else (1.6 + 2.7 * columns, 1.1 + 2.1 * rows)


def _wrapped(text: str, width: float) -> str:
    return textwrap.fill(text, max(20, int(width)))


def _draw_panel(figure: Figure, panel: Panel, axes: Axes) -> None:
    if panel.title:
        axes.set_title(_wrapped(panel.title, 40))
    if figure.kind == "bars":
        _draw_bars(figure, panel, axes)
        return
    if figure.x.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    if figure.y.log:
        axes.set_yscale("log")
    if figure.kind == "line":
        ticks = _apart(figure.x, 2.6 if len(figure.panels) > 1 else 4.8)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.04, y=0.07)
    draw = _draw_curve if figure.kind == "curves" else _draw_line
    for series in panel.series:
        draw(figure, series, axes)
    if figure.kind == "line":
        _mark_diverged(figure, panel, axes)
    _mark_values(axes.yaxis, figure.y.log)


def _mark_values(axis: Any, log: bool) -> None:
    """Put a measure's ticks: plain numbers, also on a logarithmic axis of less than a decade."""
    low, high = axis.get_view_interval()
    subs = (1, 2, 3, 4, 5, 7) if high < 20 * low else (1, 2, 5)
    axis.set_minor_locator(NullLocator())
    axis.set_major_locator(LogLocator(subs=subs, numticks=12) if log else MaxNLocator(7, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(_plain))


def _plain(value: float, _: object = None) -> str:
    return format_option(float(f"{value:.6g}"))


def _apart(axis: Axis, inches: float) -> list[float]:
    """Return the ticks whose labels do not run into each other, from the largest down."""
    at = [math.log(tick) if axis.log else tick for tick in axis.ticks]
    span = (at[-1] - at[0]) or 1.0
    kept: list[float] = []
    left = math.inf
    for tick, place in reversed(list(zip(axis.ticks, at, strict=True))):
        half = 0.038 * len(_plain(tick)) + 0.03
        middle = (place - at[0]) / span * inches
        if middle + half <= left:
            kept.append(tick)
            left = middle - half
    return kept


# --- series ------------------------------------------------------------------------------------


def _color(figure: Figure, index: int) -> Any:
    """Return a series' colour: a shade where the labels are numbers in order."""
    if figure.ordered:
        return matplotlib.colormaps["viridis"](0.85 * index / (len(figure.labels) - 1))
    return COLORS[index % len(COLORS)]


def _look(figure: Figure, index: int, metric: str = "") -> dict[str, Any]:
    """Return what tells a series apart in print without colours too."""
    metrics = list(figure.metrics)
    dash = metrics.index(metric) if metric in metrics else index
    return {
        "color": _color(figure, index),
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[dash % len(DASHES)],
    }


def _draw_line(figure: Figure, series: Series, axes: Axes) -> None:
    xs = [point.x for point in series.points]
    medians = _values(series.points)
    look = _look(figure, series.index)
    if series.role == "published":
        published = PUBLISHED if len(figure.labels) <= 4 else {**PUBLISHED, "linestyle": ""}
        axes.plot(xs, medians, **{**look, **published})
        return
    axes.errorbar(xs, medians, yerr=_whiskers(series.points), capsize=2.5, elinewidth=1, **look)
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
                color=_color(figure, index),
            )


def _draw_curve(figure: Figure, series: Series, axes: Axes) -> None:
    xs = [point.x for point in series.points]
    medians = _values(series.points)
    look = _look(figure, series.index, series.metric)
    if series.role == "published":
        axes.plot(xs, medians, clip_on=False, zorder=5, **{**look, **PUBLISHED, "linestyle": ""})
    elif series.role == "diverged":
        axes.plot(xs, medians, linewidth=0.8, color=look["color"], linestyle=look["linestyle"])
        axes.plot(xs[-1:], medians[-1:], color=look["color"], **DIVERGED)
    else:
        every = max(1, len(xs) // 8)
        # Markers of different series at different epochs, so that none hides another.
        start = (series.index * every) // len(figure.labels) if len(xs) > 8 else 0
        if len(figure.labels) == 1 and len(xs) > 1:
            look["marker"] = ""
        axes.plot(xs, medians, markevery=(start, every), markersize=4, **look)
        lows, highs = ([getattr(p, end) for p in series.points] for end in ("low", "high"))
        axes.fill_between(xs, lows, highs, color=look["color"], alpha=0.18, linewidth=0)


PUBLISHED: dict[str, Any] = {
    "markerfacecolor": "white",
    "markersize": 6,
    "linestyle": (0, (1, 2)),
    "linewidth": 1.0,
    "alpha": 0.85,
}
DIVERGED: dict[str, Any] = {
    "marker": "x",
    "linestyle": "",
    "markersize": 6,
    "markeredgewidth": 1.6,
    "clip_on": False,
}


def _values(points: Sequence[Point]) -> list[float]:
    """Return the medians, a gap where there is none."""
    return [math.nan if point.median is None else point.median for point in points]


def _whiskers(points: Sequence[Point]) -> list[list[float]]:
    """Return how far lowest and highest are from the medians."""
    spans = [
        (0.0, 0.0)
        if point.median is None or point.low is None or point.high is None
        else (point.median - point.low, point.high - point.median)
        for point in points
    ]
    return [[below for below, _ in spans], [above for _, above in spans]]


# --- bars --------------------------------------------------------------------------------------


def _bar_count(figure: Figure, panel: Panel) -> int:
    return max(len(figure.x.names), sum(len(s.points) for s in panel.series if s.role == "measured"))


def _draw_bars(figure: Figure, panel: Panel, axes: Axes) -> None:
    """Draw horizontal bars, their names beside them and their values behind them."""
    names = figure.x.names
    thick = 0.8 / len(figure.labels)
    if figure.y.log:
        axes.set_xscale("log")
    ends: dict[tuple[float, int], float] = {}
    for series in panel.series:
        for point in series.points:
            place = point.x + (series.index - (len(figure.labels) - 1) / 2) * thick
            key = (point.x, series.index)
            ends[key] = max(ends.get(key, 0.0), point.high or 0.0)
            if series.role == "published":
                _draw_published_bar(figure, series.index, point, place, axes)
            elif point.median is not None:
                _draw_bar(figure, series.index, point, place, thick, axes)
    for series in panel.series:
        for point in series.points if series.role == "measured" else ():
            place = point.x + (series.index - (len(figure.labels) - 1) / 2) * thick
            end = ends[(point.x, series.index)]
            axes.annotate(
                _bar_text(point), (end, place), (5, 0), textcoords="offset points", va="center", fontsize=7
            )
    axes.set_yticks(range(len(names)), [_wrapped(name, 38) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    _mark_values(axes.xaxis, figure.y.log)
    said = max(
        len(_bar_text(point)) for one in panel.series if one.role == "measured" for point in one.points
    )
    axes.margins(x=0.08 + 0.014 * said)


def _draw_bar(figure: Figure, index: int, point: Point, place: float, thick: float, axes: Axes) -> None:
    axes.barh(
        place,
        point.median or 0.0,
        height=0.92 * thick,
        color=_color(figure, index),
        edgecolor="white",
        hatch=HATCHES[index % len(HATCHES)],
        linewidth=0,
    )
    if point.n > 1:
        below, above = _whiskers([point])
        axes.errorbar(
            [point.median or 0.0],
            [place],
            xerr=[below, above],
            fmt="none",
            ecolor="black",
            elinewidth=1,
            capsize=2.5,
        )


def _draw_published_bar(figure: Figure, index: int, point: Point, place: float, axes: Axes) -> None:
    color = _color(figure, index)
    axes.plot(_values([point]), [place], color=color, marker="D", zorder=5, **_hollow())


def _hollow() -> dict[str, Any]:
    return {"markerfacecolor": "white", "markeredgecolor": "black", "markersize": 4.5, "linestyle": ""}


def _bar_text(point: Point) -> str:
    text = "" if point.median is None else f"{point.median:,.{2 if point.median < 100 else 0}f}"
    if point.diverged:
        text += f" {CROSS} {point.diverged} of {point.wanted} diverged"
    elif point.n < point.wanted:
        text += f" ({point.n} of {point.wanted} runs)" if point.n else "not run"
    return text.strip()


# --- legend ------------------------------------------------------------------------------------


def _legend(figure: Figure) -> Iterator[Line2D | Patch]:
    """Yield what says which series is which; nothing where there is only one."""
    every = [series for panel in figure.panels for series in panel.series]
    shown = sorted({series.index for series in every})
    if len(figure.labels) > 1:
        for index in shown:
            yield _handle(figure, index)
    for metric, said in figure.metrics.items():
        yield Line2D([], [], color=GREY, linestyle=_look(figure, 0, metric)["linestyle"], label=said)
    if any(series.role == "published" for series in every):
        yield _published_handle(figure)
    if figure.kind != "bars" and any(point.diverged for series in every for point in series.points):
        yield Line2D([], [], color=GREY, label="diverged", **DIVERGED)


def _handle(figure: Figure, index: int) -> Line2D | Patch:
    label = _wrapped(figure.labels[index], 30)
    if figure.kind == "bars":
        hatch = HATCHES[index % len(HATCHES)]
        return Patch(
            facecolor=_color(figure, index), edgecolor="white", hatch=hatch, linewidth=0, label=label
        )
    look = _look(figure, index)
    if figure.metrics:
        look["linestyle"] = "-"
    return Line2D([], [], label=label, **look)


def _published_handle(figure: Figure) -> Line2D:
    if figure.kind == "bars":
        return Line2D([], [], marker="D", label="published", **_hollow())
    dotted = "" if figure.kind == "curves" or len(figure.labels) > 4 else PUBLISHED["linestyle"]
    look = {**PUBLISHED, "linestyle": dotted}
    return Line2D([], [], color=GREY, marker="o", label="published", **look)
