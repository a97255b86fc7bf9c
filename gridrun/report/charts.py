"""The options of the page's charts for ECharts, as plain JSON; the page adds rows, curves and colours."""

from __future__ import annotations

from typing import Any

from gridrun.figures.colors import COLORS
from gridrun.figures.labels import METRIC_AXES, METRIC_LABELS
from gridrun.report.curves import AXIS_SCALES

MAX_CURVES = 20
"""Rows whose curves are drawn at once."""
MAX_LINES = 1000
"""Lines of parallel coordinates. More are slow to brush, and the page draws every k-th."""
PALETTE = {
    "light": COLORS,
    "dark": tuple("#FFFFFF" if color == "#000000" else color for color in COLORS),
}
STATUS_COLORS = {"done": "#0072B2", "other": "#9CC5E0", "diverged": "#E69F00", "failed": "#D55E00"}
_PAIRS = (("test_error", "train_error"), ("test_loss", "train_loss"))
"""Metrics that are also drawn together, the second one dashed."""

_ZOOM = {"type": "inside", "zoomOnMouseWheel": "ctrl", "moveOnMouseWheel": False}
"""The wheel alone scrolls the page."""


def _common() -> dict[str, Any]:
    return {
        "animation": False,
        "backgroundColor": "transparent",
        "aria": {"enabled": True},
        # Drawn on the canvas, not as HTML: no name from a grid file can become markup.
        "tooltip": {"renderMode": "richText", "confine": True},
        "toolbox": {
            "right": 4,
            "top": 0,
            "itemSize": 14,
            "feature": {"saveAsImage": {"title": "Save as PNG"}, "restore": {"title": "Reset"}},
        },
    }


def _value_axis(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "value", "name": name, "nameLocation": "middle", "scale": True, **more}


def charts(measured: list[str]) -> dict[str, Any]:
    """Return the options of all charts. `measured` are the metrics of the curves that there are."""
    return {
        "palette": PALETTE,
        "max_curves": MAX_CURVES,
        "max_lines": MAX_LINES,
        "curves": _curves(),
        "curve_choices": _choices(measured),
        "scatter": _scatter(),
        "parallel": _parallel(),
        "timeline": _timeline(),
        "status_colors": STATUS_COLORS,
        "search": _search(),
        "schedule": _schedule(),
    }


def _choices(measured: list[str]) -> list[dict[str, Any]]:
    """Return what the curves may show, one metric or two of one unit."""
    names = METRIC_AXES | {"lr": "Learning rate"}
    singles = [
        {"metrics": [name], "label": names[name], "axis": names[name]}
        for name in AXIS_SCALES
        if name in measured
    ]
    pairs = [
        {
            "metrics": list(pair),
            "label": f"{names[kind]}: {METRIC_LABELS[pair[0]]}, {METRIC_LABELS[pair[1]]} dashed",
            "axis": names[kind],
        }
        for pair, kind in zip(_PAIRS, ("error", "loss"), strict=True)
        if set(pair) <= set(measured)
    ]
    return [*singles, *pairs]


def _curves() -> dict[str, Any]:
    common = _common()
    common["tooltip"] |= {"trigger": "axis", "order": "valueAsc"}
    common["toolbox"]["feature"] = {"dataZoom": {}, **common["toolbox"]["feature"]}
    return common | {
        "legend": {"type": "scroll", "top": 34, "left": 8},
        "grid": {"left": 64, "right": 20, "top": 72, "bottom": 48},
        "xAxis": _value_axis("Epoch", nameGap=28, minInterval=1),
        "yAxis": _value_axis("", nameGap=44),
        "dataZoom": [{**_ZOOM, "xAxisIndex": 0}],
    }


def _scatter() -> dict[str, Any]:
    common = _common()
    common["toolbox"]["feature"]["brush"] = {"type": ["rect", "polygon", "clear"]}
    return common | {
        "grid": {"left": 64, "right": 24, "top": 48, "bottom": 48},
        "xAxis": _value_axis("", nameGap=28),
        "yAxis": _value_axis("", nameGap=44),
        "dataset": {"source": []},
        "brush": {
            "toolbox": ["rect", "polygon", "clear"],
            "xAxisIndex": 0,
            "throttleType": "debounce",
            "throttleDelay": 120,
            "outOfBrush": {"colorAlpha": 0.15},
        },
        "series": [{"type": "scatter", "symbolSize": 9, "itemStyle": {"opacity": 0.8}, "large": False}],
    }


def _parallel() -> dict[str, Any]:
    return _common() | {
        "parallel": {"left": 48, "right": 72, "top": 64, "bottom": 28, "axisExpandable": False},
        "parallelAxis": [],
        "visualMap": {
            "type": "continuous",
            "show": False,
            "inRange": {"color": ["#0072B2", "#E69F00", "#D55E00"]},
        },
        "series": [
            {
                "type": "parallel",
                "smooth": False,
                "lineStyle": {"width": 1.2, "opacity": 0.55},
                "inactiveOpacity": 0.04,
                "activeOpacity": 0.8,
                "progressive": 500,
                "data": [],
            }
        ],
    }


def _timeline() -> dict[str, Any]:
    common = _common()
    common["toolbox"]["feature"] = {"dataZoom": {"yAxisIndex": False}, **common["toolbox"]["feature"]}
    return common | {
        "legend": {"top": 4, "left": 8, "selectedMode": True},
        "grid": {"left": 8, "right": 40, "top": 64, "bottom": 72},
        "xAxis": _value_axis("", nameGap=26, min=0),
        "yAxis": {
            "type": "category",
            "inverse": True,
            "axisLabel": {"width": 180, "overflow": "truncate"},
            "splitArea": {"show": True},
        },
        "dataZoom": [
            {**_ZOOM, "xAxisIndex": 0, "filterMode": "none"},
            {"type": "slider", "xAxisIndex": 0, "bottom": 4, "height": 18, "filterMode": "none"},
        ],
    }


def _search() -> dict[str, Any]:
    return _common() | {
        "grid": {"left": 64, "right": 130, "top": 32, "bottom": 48},
        "xAxis": _value_axis("Round", nameGap=28, minInterval=1, axisLine={"onZero": False}),
        "yAxis": _value_axis(
            "Member",
            nameGap=36,
            minInterval=1,
            inverse=True,
            min=-1,  # room above the first member; the page leaves the same below the last
            axisLabel={"showMinLabel": False, "showMaxLabel": False},
        ),
        "visualMap": {
            "type": "continuous",
            "right": 8,
            "top": "middle",
            "dimension": 2,
            "seriesIndex": 1,
            "calculable": True,
            "precision": 2,
            "text": ["error (%)", ""],
            "inRange": {"color": ["#0072B2", "#E69F00", "#D55E00"]},
        },
    }


_OPERATION_COLORS = (
    *("#1F77B4", "#AEC7E8", "#FF7F0E", "#FFBB78", "#2CA02C", "#98DF8A", "#D62728", "#FF9896"),
    *("#9467BD", "#C5B0D5", "#8C564B", "#C49C94", "#E377C2", "#F7B6D2", "#7F7F7F"),
)


def _schedule() -> dict[str, Any]:
    """Three panels, one below the other: probability, share and level of each operation."""
    common = _common()
    common["tooltip"] |= {"trigger": "axis"}
    panels = range(3)
    return common | {
        "color": list(_OPERATION_COLORS),
        "legend": {"orient": "vertical", "right": 8, "top": 36},
        "grid": [{"left": 64, "right": 150, "top": f"{6 + 31 * i}%", "height": "25%"} for i in panels],
        "xAxis": [
            {
                **_value_axis("Epoch" if i == panels[-1] else "", nameGap=28, minInterval=1, min=1),
                "axisLabel": {"showMaxLabel": False},  # the edge after the last epoch
                "gridIndex": i,
            }
            for i in panels
        ],
        "yAxis": [{"type": "value", "nameLocation": "middle", "nameGap": 44, "gridIndex": i} for i in panels],
        "axisPointer": {"link": [{"xAxisIndex": "all"}]},
    }
