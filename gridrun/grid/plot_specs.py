"""The figures a grid file declares: which rows, what stands along the axes, what makes a series."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gridrun.grid.describe import describe_options
from gridrun.grid.node import Node, locate, read_or
from gridrun.grid.pick import Pick, nearest, read_pick
from gridrun.grid.published import Published
from gridrun.grid.rows import Row
from gridrun.grid.settings import freeze, known_keys
from gridrun.grid.table_specs import TableSpec, varying_options
from gridrun.metrics import COMPUTED, METRICS
from trainer.registry import did_you_mean

PLOT_KEYS = {
    "id": "Name of the files. Default: the grid's name.",
    "title": "Heads the figure. Default: the grid's title.",
    "kind": "line: a metric over an option that is a number. curves: metrics over epochs. bars: a metric "
    "by name.",
    "where": "Which rows: options and their values, or lists of values. Default: all.",
    "x": "Option along the axis; of bars, one or several.",
    "y": "One metric; of curves, one or several of the same unit.",
    "by": "Options in which series differ.",
    "panels": "Options in which panels differ.",
    "log_x": "Whether the axis is logarithmic. Default: if the values grow by factors.",
    "log_y": "Whether the axis of the metric is logarithmic. Default: of curves, if values span a factor "
    "of 8.",
    "published": "Whether published values are drawn beside ours. Default: true.",
}
"""Keys of a figure, and what each means."""
Kind = Literal["line", "curves", "bars"]
"""line: a metric over an option that is a number. curves: metrics over epochs. bars: a metric by name."""
EPOCH_METRICS = {
    "test_error": "error",
    "top5_error": "error",
    "train_error": "error",
    "test_loss": "loss",
    "train_loss": "loss",
}
"""The metrics of curves, and the unit of each: curves in one figure share an axis, so also the unit."""
MAX_SERIES = 8
"""In one panel: more colours cannot be told apart."""
MAX_PANELS = 12
MAX_BARS = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class PlotSpec:
    """One figure: what it shows, without results."""

    id: str
    """Name of its files."""
    title: str
    kind: Kind
    rows: tuple[Row, ...]
    x: tuple[str, ...]
    """Along the axis: an option that is a number (line), what names a bar (bars), nothing (curves)."""
    y: tuple[str, ...]
    """One metric, or some of EPOCH_METRICS (curves)."""
    by: tuple[str, ...]
    """Options in which series differ."""
    panels: tuple[str, ...]
    """Options in which panels differ."""
    log_x: bool
    log_y: bool | None
    """None: whether it is follows from the values."""
    published: Mapping[str, Published]
    """By `config_id`."""
    source: str | None
    """Where the published values come from."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Everything in which its rows differ."""
        return (*self.x, *self.by, *self.panels)

    def check(self) -> None:
        """Raise GridError if two rows have the same place, which can happen under a profile."""
        _check_places(Node(self.id, "", locate({})), self.rows, self.keys)


def picked(rows: Sequence[Row], pick: Pick | None) -> tuple[Row, ...]:
    """Return the rows that are picked; without a pick, all of them."""
    return tuple(row for row in rows if not pick or pick.matches(row.option))


# --- reading -----------------------------------------------------------------------------------


def read_plots(
    node: Node, default_id: str, default_title: str, rows: Sequence[Row], tables: Sequence[TableSpec]
) -> tuple[PlotSpec, ...]:
    """Read `plots`; a single figure may leave out its id. Raises GridError: a figure is not valid."""
    nodes = node.items("a list of figures")
    plots: dict[str, PlotSpec] = {}
    for item in nodes:
        given = item.options(PLOT_KEYS)
        if "id" not in given and len(nodes) > 1:
            raise item.error("needs an `id`, as there are several figures")
        plot_id = read_or(given, "id", Node.name, default_id)
        title = read_or(given, "title", Node.text, default_title)
        if plot_id in plots:
            raise item.error(f"the id {plot_id!r} is taken by another figure")
        shown = picked(rows, read_pick(given["where"]) if "where" in given else None)
        if not shown:
            raise given["where"].error("matches no row")
        plots[plot_id] = _read_plot(item, given, plot_id, title, shown, tables)
    return tuple(plots.values())


def undeclared_plot(
    plot_id: str,
    title: str,
    rows: Sequence[Row],
    tables: Sequence[TableSpec],
    options: Mapping[str, Any] | None = None,
) -> PlotSpec:
    """Return a figure that the grid file does not declare; `options` are some of PLOT_KEYS.

    Raises:
        GridError: an option is not valid, or there are too many rows to choose the axes for.
    """
    given = {key: Node(f"--{key.replace('_', '-')}", "", locate(v)) for key, v in (options or {}).items()}
    return _read_plot(Node(plot_id, "", locate({})), given, plot_id, title, tuple(rows), tables)


def _read_plot(
    node: Node,
    given: Mapping[str, Node],
    plot_id: str,
    title: str,
    rows: tuple[Row, ...],
    tables: Sequence[TableSpec],
) -> PlotSpec:
    keys = {key: _read_keys(given[key]) for key in ("x", "by", "panels") if key in given}
    chosen: Kind | None = read_or(given, "kind", lambda entry: entry.choice(get_args(Kind), "kind"), None)
    kind = chosen or _default_kind(rows, keys.get("x"))
    y = _read_metrics(given["y"], kind) if "y" in given else ()
    _check_x(given.get("x", node), kind, keys.get("x"), rows)
    x, by, panels = _choose_axes(kind, rows, keys)
    _check_size(node, kind, rows, x, by, panels)
    if not y:
        with_training = kind == "curves" and len(_distinct(rows, by)) <= 4
        y = ("test_error", "train_error") if with_training else ("test_error",)
    xs = [row.column(x[0]) for row in rows] if kind == "line" else []
    log_x = read_or(given, "log_x", Node.flag, is_geometric(xs))
    if log_x and min(xs, default=1) <= 0:
        raise given["log_x"].error(f"{x[0]} takes the value {min(xs):g}, which has no logarithm")
    published: dict[str, Published] = {}
    sources = []
    wanted = {row.config_id for row in rows}
    for table in tables if read_or(given, "published", Node.flag, True) else ():
        if here := {key: values for key, values in table.published.items() if key in wanted}:
            published = here | published
            sources.append(table.source)
    return PlotSpec(
        id=plot_id,
        title=title,
        kind=kind,
        rows=rows,
        x=x,
        y=y,
        by=by,
        panels=panels,
        log_x=log_x,
        log_y=read_or(given, "log_y", Node.flag, None),
        published=published,
        source="; ".join(dict.fromkeys(source for source in sources if source)) or None,
    )


def _read_keys(node: Node) -> tuple[str, ...]:
    """Read an option's key, or a list of them."""
    known = {*known_keys(), *COMPUTED, "name"}

    def check(item: Node, key: str) -> None:
        if key not in known:
            raise item.error(f"unknown option {key!r}.{nearest(key, known)}")

    return node.distinct(check)


def _read_metrics(node: Node, kind: Kind) -> tuple[str, ...]:
    choices = EPOCH_METRICS if kind == "curves" else METRICS

    def check(item: Node, metric: str) -> None:
        if metric not in choices:
            what = "curves show one of" if kind == "curves" else "is not a metric; choose from"
            near = did_you_mean(metric, choices)
            raise item.error(f"{metric!r}: {what} {', '.join(choices)}.{near if 'mean' in near else ''}")

    metrics = node.distinct(check)
    if kind != "curves" and len(metrics) > 1:
        raise node.error(f"a figure of kind {kind} has one metric")
    if len({EPOCH_METRICS.get(metric) for metric in metrics}) > 1:
        raise node.error("errors and losses have different units: make two figures")
    return metrics


# --- choosing the axes -------------------------------------------------------------------------


Keys = tuple[str, ...]


def _choose_axes(kind: Kind, rows: Sequence[Row], given: Mapping[str, Keys]) -> tuple[Keys, Keys, Keys]:
    """Return the keys of `x`, `by` and `panels`: those given, and the best choice for the others."""
    x, by, panels = given.get("x", ()), given.get("by"), given.get("panels", ())
    free = [key for key in _varying(rows) if key not in {*x, *(by or ()), *panels}]
    if kind == "line" and not x:
        x = _widest(free, rows)
    if kind == "bars" and not x:
        x = _fewest(free, rows, (*(by or ()), *panels)) or ("name",)
        if by is None and len(x) > 1 and len(_distinct(rows, x[-1:])) <= 4:
            x, by = x[:-1], x[-1:]
    if by is not None:
        return x, by, panels
    by = _fewest([key for key in free if key not in x], rows, (*x, *panels))
    if "panels" not in given:
        # Too many series for one panel: spread them over panels.
        most = 4 if kind == "curves" else MAX_SERIES
        while len(by) > 1 and len(_distinct(rows, by)) > most:
            panels, by = (*panels, by[0]), by[1:]
        if not panels and most < len(_distinct(rows, by)) <= MAX_PANELS:
            panels, by = by, ()
    return x, by, panels


def _check_size(node: Node, kind: Kind, rows: Sequence[Row], x: Keys, by: Keys, panels: Keys) -> None:
    """Raise GridError if two rows have the same place, or there are too many series, panels or bars."""
    _check_places(node, rows, (*x, *by, *panels))
    for what, count, most, instead in (
        ("series", len(_distinct(rows, by)), MAX_SERIES, "" if panels else " or spread them over `panels`"),
        ("panels", len(_distinct(rows, panels)), MAX_PANELS, ""),
        ("bars", len(rows) if kind == "bars" else 0, MAX_BARS, ""),
    ):
        if count > most:
            raise node.error(f"asks for {count} {what}, the most is {most}: narrow by `where`{instead}")


def _check_places(node: Node, rows: Sequence[Row], keys: Sequence[str]) -> None:
    """Raise GridError if two rows are equal under these keys: the figure would draw them at one place."""
    places: dict[Any, Row] = {}
    for row in rows:
        other = places.setdefault(_place(row, keys), row)
        if other is not row:
            differ = [key for key in _varying([other, row]) if key not in keys]
            described = describe_options({key: row.column(key) for key in keys})
            raise node.error(
                f"two rows have the same place ({described or 'the only one'}); they differ in "
                f"{', '.join(differ)}: put it under `by` or `panels`, or choose with `where`"
            )


def _default_kind(rows: Sequence[Row], x: Sequence[str] | None) -> Kind:
    """Return `line` where a numeric option takes three values or more, and `bars` for rows with names."""
    if x:
        return "line" if _numeric(x, rows) else "bars"
    if any(row.name for row in rows):
        return "bars"
    keys = _varying(rows)
    widest = _widest(keys, rows)
    if not widest or len(_distinct(rows, widest)) < 3:
        return "bars"
    series = _distinct(rows, _fewest([key for key in keys if key not in widest], rows, widest))
    return "bars" if len(series) > MAX_SERIES and len(rows) <= MAX_BARS else "line"


def _check_x(node: Node, kind: Kind, x: Sequence[str] | None, rows: Sequence[Row]) -> None:
    """Raise GridError if the kind of figure cannot have this `x`, or has nothing to choose it from."""
    if kind == "curves" and x:
        raise node.error("curves are drawn over epochs; options go under `by` or `panels`")
    if kind != "line":
        return
    if not x:
        if not _numeric(_varying(rows), rows):
            raise node.error("no option that varies is a number; use `kind: bars` to compare by name")
        return
    if len(x) > 1:
        raise node.error("a line has one option along its axis; others go under `by` or `panels`")
    for row in rows:
        if not is_number(value := row.column(x[0])):
            raise node.error(
                f"{x[0]} must be a number in every row, but is {value!r} in the row of line {row.line}; "
                "use `kind: bars` to compare by name"
            )


# --- values ------------------------------------------------------------------------------------


def is_geometric(values: Sequence[float]) -> bool:
    """Return whether values, such as 128, 256, 512, are spaced more evenly on a logarithmic axis."""
    xs = sorted(set(values))
    if len(xs) < 3 or xs[0] <= 0 or xs[-1] < 4 * xs[0]:
        return False

    def unevenness(xs: Sequence[float]) -> float:
        gaps = [after - before for before, after in itertools.pairwise(xs)]
        return max(gaps) / min(gaps)

    return unevenness([math.log(x) for x in xs]) < unevenness(xs)


def is_number(value: Any) -> bool:
    """Return whether a value is an int or a float; true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _varying(rows: Sequence[Row]) -> list[str]:
    """Return the keys in which rows differ: those without a dot first, `epochs` last of these."""
    columns = [*(["name"] if any(row.name for row in rows) else []), *varying_options(rows)]
    return sorted(columns, key=lambda column: ("." in column, column == "epochs"))


def _numeric(keys: Sequence[str], rows: Sequence[Row]) -> list[str]:
    return [key for key in keys if all(is_number(row.column(key)) for row in rows)]


def _widest(keys: Sequence[str], rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the numeric option with the most values: the first of several, or none."""
    numbers = _numeric(keys, rows)
    return (max(numbers, key=lambda key: len(_distinct(rows, (key,)))),) if numbers else ()


def _fewest(keys: Sequence[str], rows: Sequence[Row], others: Sequence[str]) -> tuple[str, ...]:
    """Return the fewest of `keys`, earlier ones first, that tell rows apart together with `others`.

    This leaves out, for instance, a learning rate that follows from the batch size.
    """
    kept = [key for key in keys if len(_distinct(rows, (key,))) > 1]
    for key in reversed(kept[:]):
        fewer = [k for k in kept if k != key]
        if len(_distinct(rows, (*others, *fewer))) == len(_distinct(rows, (*others, *kept))):
            kept = fewer
    return tuple(kept)


def _distinct(rows: Sequence[Row], keys: Sequence[str]) -> set[Any]:
    return {_place(row, keys) for row in rows}


def _place(row: Row, keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(freeze(row.column(key)) for key in keys)
