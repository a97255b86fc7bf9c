"""Draw figures to PNG, SVG and PDF with matplotlib: the only package that imports it.

Drawing needs no screen and ignores the user's own matplotlib settings. Files hold no time and no place:
the same figure gives the same bytes. Each file holds the digest of its figure.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.figure import Figure as Canvas

from gridrun.errors import StoreError
from gridrun.figures.draw.canvas import draw
from gridrun.figures.draw.policies import draw_lineage, draw_schedule, draw_sheet
from gridrun.figures.draw.spread import draw_spread
from gridrun.figures.model import Drawable, Figure
from gridrun.figures.policies import LineageFigure, ScheduleFigure
from gridrun.figures.sheet import SheetFigure
from gridrun.figures.spread import SpreadFigure
from gridrun.text import printable_lines
from trainer import files

STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "axes.xmargin": 0.04,
    "axes.ymargin": 0.07,
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
    "text.parse_math": False,  # a `$` in a title starts no formula
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


@contextlib.contextmanager
def in_style() -> Iterator[None]:
    """Draw what follows in gridrun's own style."""
    with matplotlib.rc_context(), matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # it is drawn as a box
        yield


DRAW: dict[type, Callable[[Any], Canvas]] = {
    Figure: draw,
    ScheduleFigure: draw_schedule,
    LineageFigure: draw_lineage,
    SheetFigure: draw_sheet,
    SpreadFigure: draw_spread,
}


def save(figure: Drawable, path: Path) -> None:
    """Replace a file (suffix: one of FORMATS) by a figure. Raises StoreError: it cannot be written."""
    form = path.suffix.lstrip(".")
    with in_style():
        shown = _printable(figure)
        canvas = DRAW[type(figure)](shown)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.replacing(path) as partial:
                canvas.savefig(partial, format=form, metadata=_metadata(shown.title, figure, form))
        except OSError as error:
            raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from None


def is_current(path: Path, figure: Drawable) -> bool:
    """Return whether a file exists and shows this figure."""
    try:
        return f"gridrun figure {figure.digest}".encode() in path.read_bytes()
    except OSError:
        return False


def _printable(value: Any) -> Any:
    """Return a figure, or a part of one, without the control characters that no XML file may have."""
    if isinstance(value, str):
        return printable_lines(value)
    if isinstance(value, tuple):
        items = map(_printable, value)
        return value._make(items) if hasattr(value, "_make") else tuple(items)
    if isinstance(value, Mapping):
        return {key: _printable(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _printable(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value


def _metadata(title: str, figure: Drawable, form: str) -> dict[str, Any]:
    mark = f"gridrun figure {figure.digest}"
    match form:
        case "png":
            return {"Title": title, "Description": mark, "Software": None}
        case "svg":
            return {"Title": title, "Description": mark, "Date": None, "Creator": None}
        case _:
            return {"Title": title, "Keywords": mark, "CreationDate": None, "Creator": None}
