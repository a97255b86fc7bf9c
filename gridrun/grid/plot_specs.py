"""The figures a grid file declares: which rows, what stands along the axes, what makes a series."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gridrun.grid.pick import Pick, nearest, read_pick
from gridrun.grid.published import Published
from gridrun.grid.rows import Row
from gridrun.grid.settings import Missing, freeze
from gridrun.grid.table_specs import TableSpec, default_columns, value_of
from gridrun.grid.yaml import Node, locate, read_name, shown
from gridrun.metrics import COMPUTED, METRICS
from trainer.registry import did_you_mean

PLOT_KEYS = ("id", "title", "kind", "where", "x", "y", "by", "panels", "log_x", "log_y", "published")
EPOCH_METRICS = {"test_error": "error", "train_error": "error", "test_loss": "loss", "train_loss": "loss"}
"""What curves can show, and of which kind it is: curves of one figure share their axis."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlotSpec:
    """One figure: what it shows, not what came out."""

    id: str
    """Of its files."""
    title: str
    kind: Kind
    rows: tuple[Row, ...]
    x: tuple[str, ...]
    """Along the axis: an option that is a number (line), what names a bar (bars), nothing (curves)."""
    y: tuple[str, ...]
    """One metric, or some of EPOCH_METRICS (curves)."""
    by: tuple[str, ...]
    """Options by which series differ."""
    panels: tuple[str, ...]
    """Options by which panels differ."""
    log_x: bool
    log_y: bool
    published: Mapping[str, Published]
    """By `config_id`."""
    source: str | None
    """Where the published values are from."""

    @property
    def keys(self) -> tuple[str, ...]:
        """What tells its rows apart."""
        return (*self.x, *self.by, *self.panels)

    def check(self) -> None:
        """Raise GridError: two rows stand at one place, as a profile can bring about."""
        check_places(Node(self.id, "", locate({})), self.rows, self.keys)


def picked(rows: Sequence[Row], pick: Pick | None) -> tuple[Row, ...]:
    """Return the rows that are picked; all of them if there is no choice."""
    return tuple(row for row in rows if not pick or pick.matches(functools.partial(value_of, row)))


@dataclass(frozen=True, slots=True)
class PlotReader:
    """What every figure of a grid is read against."""

    name: str
    """Of the grid: the id of its only figure."""
    title: str
    rows: Sequence[Row]
    tables: Sequence[TableSpec]
    known: Collection[str]
    """Every option there is."""

    def read(self, node: Node) -> tuple[PlotSpec, ...]:
        """Read `plots`. Raises GridError."""
        nodes = node.items("a list of figures")
        plots: dict[str, PlotSpec] = {}
        for item in nodes:
            given = item.options(PLOT_KEYS)
            if "id" not in given and len(nodes) > 1:
                raise item.error("needs an `id`, as there are several figures")
            plot_id = read_name(given["id"]) if "id" in given else self.name
            title = given["title"].text() if "title" in given else self.title
            if plot_id in plots:
                raise item.error(f"the id {plot_id!r} is taken by another figure")
            rows = self._where(given["where"]) if "where" in given else tuple(self.rows)
            plots[plot_id] = self._plot(item, given, plot_id, title, rows)
        return tuple(plots.values())

    def undeclared(
        self, plot_id: str, title: str, rows: Sequence[Row], options: Mapping[str, Any] | None = None
    ) -> PlotSpec:
        """Return a figure that the grid file does not declare.

        Args:
            options: some of PLOT_KEYS, as the command line has them.

        Raises:
            GridError: an option is not right, or so many rows cannot be shown without any.
        """
        given = {key: Node(f"--{key.replace('_', '-')}", "", locate(v)) for key, v in (options or {}).items()}
        return self._plot(Node(plot_id, "", locate({})), given, plot_id, title, tuple(rows))

    def _where(self, node: Node) -> tuple[Row, ...]:
        rows = picked(self.rows, read_pick(node, self.known))
        if not rows:
            raise node.error("matches no row")
        return rows

    def _plot(
        self, node: Node, given: Mapping[str, Node], plot_id: str, title: str, rows: tuple[Row, ...]
    ) -> PlotSpec:
        keys = {key: self._keys(given[key]) for key in ("x", "by", "panels") if key in given}
        kind = _read_kind(given["kind"]) if "kind" in given else default_kind(rows, keys.get("x"))
        y = _read_metrics(given["y"], kind) if "y" in given else None
        check_x(given.get("x", node), kind, keys.get("x"), rows)
        layout = Layout(kind, rows, keys)
        layout.check(node)
        xs = [plot_value(row, layout.x[0]) for row in rows] if kind == "line" else []
        log_x = _read_flag(given["log_x"]) if "log_x" in given else is_geometric(xs)
        if log_x and min(xs, default=1) <= 0:
            raise given["log_x"].error(f"{layout.x[0]} takes the value {min(xs):g}, which has no logarithm")
        with_published = _read_flag(given["published"]) if "published" in given else True
        return PlotSpec(
            id=plot_id,
            title=title,
            kind=kind,
            rows=rows,
            x=layout.x,
            y=y or _default_metrics(kind, len(layout.series)),
            by=layout.by,
            panels=layout.panels,
            log_x=log_x,
            log_y=_read_flag(given["log_y"]) if "log_y" in given else False,
            published=self._published(rows) if with_published else {},
            source=self._source(rows) if with_published else None,
        )

    def _keys(self, node: Node) -> tuple[str, ...]:
        """Read an option's key, or a list of them."""
        keys: list[str] = []
        for item in node.items() if isinstance(node.value, list) else [node]:
            key = item.text()
            if key not in {*self.known, *COMPUTED, "name"}:
                raise item.error(f"unknown option {key!r}.{nearest(key, {*self.known, *COMPUTED, 'name'})}")
            if key in keys:
                raise item.error(f"{key!r} stands here twice")
            keys.append(key)
        return tuple(keys)

    def _published(self, rows: Sequence[Row]) -> dict[str, Published]:
        """Return what the tables say is published; of a row in two tables, what the first says."""
        found: dict[str, Published] = {}
        for table in self.tables:
            found = {**table.published, **found}
        wanted = {row.config_id for row in rows}
        return {config_id: published for config_id, published in found.items() if config_id in wanted}

    def _source(self, rows: Sequence[Row]) -> str | None:
        wanted = {row.config_id for row in rows}
        sources = [table.source for table in self.tables if wanted & table.published.keys()]
        return "; ".join(dict.fromkeys(source for source in sources if source)) or None


def _default_metrics(kind: Kind, num_series: int) -> tuple[str, ...]:
    return ("test_error", "train_error") if kind == "curves" and num_series <= 4 else ("test_error",)


def _read_kind(node: Node) -> Kind:
    kinds: tuple[Kind, ...] = get_args(Kind)
    value = node.text()
    for kind in kinds:
        if value == kind:
            return kind
    raise node.error(f"unknown kind {value!r}.{did_you_mean(value, kinds)}")


def _read_metrics(node: Node, kind: Kind) -> tuple[str, ...]:
    items = node.items() if isinstance(node.value, list) else [node]
    choices = EPOCH_METRICS if kind == "curves" else METRICS
    metrics: list[str] = []
    for item in items:
        metric = item.text()
        if metric not in choices:
            what = "curves show one of" if kind == "curves" else "is no metric; there are"
            near = did_you_mean(metric, choices)
            raise item.error(f"{metric!r}: {what} {', '.join(choices)}.{near if 'mean' in near else ''}")
        if metric in metrics:
            raise item.error(f"{metric!r} stands here twice")
        metrics.append(metric)
    if kind != "curves" and len(metrics) > 1:
        raise node.error(f"a figure of kind {kind} has one metric")
    if len({EPOCH_METRICS.get(metric) for metric in metrics}) > 1:
        raise node.error("errors and losses have different units: make two figures")
    return tuple(metrics)


def _read_flag(node: Node) -> bool:
    if not isinstance(node.value, bool):
        raise node.error(f"must be true or false, got {shown(node.located)}")
    return node.value


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
