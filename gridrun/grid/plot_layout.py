"""What stands along a figure's axis, what makes a series, what a panel: given, or chosen from the rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from gridrun.columns import COMPUTED, METRICS
from gridrun.grid.node import Node
from gridrun.grid.rows import Row
from gridrun.grid.settings import Missing, freeze
from gridrun.grid.table_specs import default_columns, value_of

Kind = Literal["line", "curves", "bars"]
"""line: a metric over an option that is a number. curves: metrics over epochs. bars: a metric by name."""

MAX_SERIES = 8
"""In one panel: as many colours as can be told apart."""
MAX_PANELS = 12
MAX_BARS = 80


def plot_value(row: Row, key: str) -> Any:
    """Return what a figure shows of a row under a key: an option, `name` or a computed column."""
    if key == "name":
        return row.name or row.config.model.label
    if key in COMPUTED:
        return COMPUTED[key](row.config)
    value = value_of(row, key)
    return None if isinstance(value, Missing) else value


class Layout:
    """Which keys make the axis, the series and the panels; those not given are chosen."""

    def __init__(self, kind: Kind, rows: Sequence[Row], given: Mapping[str, tuple[str, ...]]) -> None:
        self.kind = kind
        self.rows = rows
        keys = _varying(rows)
        x = given.get("x", ())
        by = given.get("by")
        taken = {*x, *(by or ()), *given.get("panels", ())}
        free = [key for key in keys if key not in taken]
        if kind == "line" and not x:
            x = _widest(free, rows)
        if kind == "bars" and not x:
            x = _telling(free, rows, (*(by or ()), *given.get("panels", ()))) or ("name",)
            if by is None and len(x) > 1 and len(_distinct(rows, x[-1:])) <= 4:
                x, by = x[:-1], x[-1:]
        self.x = x
        free = [key for key in free if key not in x]
        self.panels = given.get("panels", ())
        self.by = by if by is not None else _telling(free, rows, (*x, *self.panels))
        if "panels" not in given and by is None:
            self._spread()

    @property
    def series(self) -> set[Any]:
        """The series of all panels."""
        return _distinct(self.rows, self.by)

    def _spread(self) -> None:
        """Move options from series to panels where one panel would be too full."""
        most = 4 if self.kind == "curves" else MAX_SERIES
        while len(self.by) > 1 and len(self.series) > most:
            self.panels, self.by = (*self.panels, self.by[0]), self.by[1:]
        if not self.panels and most < len(self.series) <= MAX_PANELS:
            self.panels, self.by = self.by, ()

    def check(self, node: Node) -> None:
        """Raise GridError: two rows stand at one place, or there are too many series, panels or bars."""
        check_places(node, self.rows, (*self.x, *self.by, *self.panels))
        for what, count, most, instead in (
            ("series", len(self.series), MAX_SERIES, "" if self.panels else " or spread them over `panels`"),
            ("panels", len(_distinct(self.rows, self.panels)), MAX_PANELS, ""),
            ("bars", len(self.rows) if self.kind == "bars" else 0, MAX_BARS, ""),
        ):
            if count > most:
                raise node.error(f"asks for {count} {what}, the most is {most}: narrow by `where`{instead}")


def check_places(node: Node, rows: Sequence[Row], keys: Sequence[str]) -> None:
    """Raise GridError: two rows are the same under these keys, so that they would stand at one place."""
    places: dict[Any, Row] = {}
    for row in rows:
        other = places.setdefault(_place(row, keys), row)
        if other is not row:
            differ = [key for key in _varying([other, row]) if key not in keys]
            raise node.error(
                f"two rows stand at one place ({_described(row, keys)}); they differ in "
                f"{', '.join(differ)}: put it under `by` or `panels`, or choose with `where`"
            )


def is_geometric(values: Sequence[float]) -> bool:
    """Tell whether values, such as 128, 256, 512, are spaced more evenly on a logarithmic axis."""
    xs = sorted(set(values))
    if len(xs) < 3 or xs[0] <= 0 or xs[-1] < 4 * xs[0]:
        return False
    return _unevenness([math.log(x) for x in xs]) < _unevenness(xs)


def _unevenness(xs: Sequence[float]) -> float:
    gaps = [after - before for before, after in itertools.pairwise(xs)]
    return max(gaps) / min(gaps)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _varying(rows: Sequence[Row]) -> list[str]:
    """Return what tells rows apart, whole options before parts of them."""
    columns = [column for column in default_columns(rows) if column not in METRICS]
    return sorted(columns, key=lambda column: ("." in column, column == "epochs"))


def _numeric(keys: Sequence[str], rows: Sequence[Row]) -> list[str]:
    return [key for key in keys if all(is_number(plot_value(row, key)) for row in rows)]


def _widest(keys: Sequence[str], rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the numeric option with the most values, the first of several; nothing if there is none."""
    numbers = _numeric(keys, rows)
    return (max(numbers, key=lambda key: len(_distinct(rows, (key,)))),) if numbers else ()


def _telling(keys: Sequence[str], rows: Sequence[Row], others: Sequence[str]) -> tuple[str, ...]:
    """Return the fewest of `keys`, the first rather than the last, that with `others` tell rows apart.

    A learning rate that follows from the batch size is none of them.
    """
    kept = [key for key in keys if len(_distinct(rows, (key,))) > 1]
    for key in reversed(kept[:]):
        fewer = [k for k in kept if k != key]
        if len(_distinct(rows, (*others, *fewer))) == len(_distinct(rows, (*others, *kept))):
            kept = fewer
    return tuple(kept)


def _distinct(rows: Sequence[Row], keys: Sequence[str]) -> set[Any]:
    return {_place(row, keys) for row in rows}


def _place(row: Row, keys: Sequence[str]) -> Any:
    return tuple(freeze(plot_value(row, key)) for key in keys)


def _described(row: Row, keys: Sequence[str]) -> str:
    return ", ".join(f"{key}: {plot_value(row, key)}" for key in keys) or "the only one"


def default_kind(rows: Sequence[Row], x: Sequence[str] | None) -> Kind:
    """Return a line where an option takes three numbers or more; rows with names are compared as bars."""
    if x:
        return "line" if _numeric(x, rows) else "bars"
    if any(row.name for row in rows):
        return "bars"
    keys = _varying(rows)
    widest = _widest(keys, rows)
    if not widest or len(_distinct(rows, widest)) < 3:
        return "bars"
    series = _distinct(rows, _telling([key for key in keys if key not in widest], rows, widest))
    return "bars" if len(series) > MAX_SERIES and len(rows) <= MAX_BARS else "line"


def check_x(node: Node, kind: Kind, x: Sequence[str] | None, rows: Sequence[Row]) -> None:
    if kind == "curves" and x:
        raise node.error("curves stand over epochs; options go under `by` or `panels`")
    if kind != "line":
        return
    if not x:
        if not _numeric(_varying(rows), rows):
            raise node.error("no option that varies is a number: `kind: bars` compares by name")
        return
    if len(x) > 1:
        raise node.error("a line has one option along its axis; others go under `by` or `panels`")
    for row in rows:
        if not is_number(value := plot_value(row, x[0])):
            raise node.error(
                f"{x[0]} must be a number in every row, is {value!r} in that of line {row.line}: "
                "`kind: bars` compares by name"
            )
