"""What says which series is which."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gridrun.draw.looks import DIVERGED, GREY, HATCHES, HOLLOW, PUBLISHED, color, look, wrapped
from gridrun.figures import Figure


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
