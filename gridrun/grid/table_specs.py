"""The tables a grid file declares: which rows, which columns, and what others published for them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from gridrun.grid.pick import nearest, read_pick
from gridrun.grid.published import VALUE_KEYS, Published, read_csv, read_published
from gridrun.grid.rows import Row
from gridrun.grid.settings import Missing, config_option, freeze
from gridrun.grid.yaml import Node, read_name
from gridrun.metrics import LABELS, METRICS
from trainer import TrainConfig
from trainer.registry import Options, did_you_mean
from trainer.schema import field_types, mapped_registry

TABLE_KEYS = ("id", "title", "where", "columns", "headers", "published", "reported", "source", "spread")
Spread = Literal["minmax", "std"]
"""What a cell shows beside its median: its lowest and highest run, or the standard deviation."""
DEFAULT_METRICS = ("test_error", "train_time")


@dataclass(frozen=True, slots=True)
class Reported:
    """A row that is reported elsewhere and that no trial stands for: shown, never trained."""

    options: Mapping[str, Any]
    """What the columns that are no metrics show."""
    published: Published | None


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table: what it shows, not what came out."""

    id: str
    title: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    published: Mapping[str, Published]
    """By `config_id`."""
    reported: tuple[Reported, ...]
    """Rows that come after those of `rows`."""
    headers: Mapping[str, str]
    """Of columns, where they are not the usual ones."""
    spread: Spread | None = None
    source: str | None = None
    """Where the published values are from."""


@dataclass(frozen=True, slots=True)
class TableReader:
    """What every table of a grid is read against."""

    name: str
    """Of the grid: the id of its only table."""
    title: str
    rows: Sequence[Row]
    known: Collection[str]
    """Every option there is."""
    find_file: Callable[[Node], Path]
    """Returns the file a path in the grid file means, or raises GridError."""
    source: str | None = None
    """Of the published values of tables that do not say their own."""

    def default(self) -> TableSpec:
        """Return the one table of a grid that declares none."""
        rows = tuple(self.rows)
        columns = default_columns(rows)
        published = published_of_cases(rows)
        return TableSpec(self.name, self.title, rows, columns, published, (), {}, source=self.source)

    def read(self, node: Node) -> tuple[TableSpec, ...]:
        """Read `tables`. Raises GridError."""
        nodes = node.items("a list of tables")
        tables: dict[str, TableSpec] = {}
        for item in nodes:
            table = self._table(item, alone=len(nodes) == 1)
            if table.id in tables:
                raise item.error(f"the id {table.id!r} is taken by another table")
            tables[table.id] = table
        return tuple(tables.values())

    def _table(self, node: Node, alone: bool) -> TableSpec:
        given = node.options(TABLE_KEYS)
        if "id" not in given and not alone:
            raise node.error("needs an `id`, as there are several tables")
        reported = _reported(given["reported"]) if "reported" in given else ()
        everything = () if reported else tuple(self.rows)
        rows = self._where(given["where"]) if "where" in given else everything
        columns = self._columns(node, given, rows, reported)
        published = published_of_cases(rows)
        if "published" in given:
            table_level = self._published(given["published"], rows)
            published |= {key: value.merged(published.get(key)) for key, value in table_level.items()}
        return TableSpec(
            id=read_name(given["id"]) if "id" in given else self.name,
            title=given["title"].text() if "title" in given else self.title,
            rows=rows,
            columns=columns,
            published=published,
            reported=reported,
            headers=_headers(given["headers"], columns) if "headers" in given else {},
            spread=_spread(given["spread"]) if "spread" in given else None,
            source=given["source"].text() if "source" in given else self.source,
        )

    def _columns(
        self, node: Node, given: Mapping[str, Node], rows: Sequence[Row], reported: Sequence[Reported]
    ) -> tuple[str, ...]:
        """Read `columns`. Raises GridError: a column is unknown, or a reported row has what none shows."""
        if "columns" not in given:
            if reported:
                raise node.error("needs `columns`, as its rows are `reported`")
            return default_columns(rows)
        columns = read_columns(given["columns"], rows, {key for row in reported for key in row.options})
        for item, row in zip(given["reported"].items() if reported else (), reported, strict=True):
            for key in row.options:
                if key not in columns:
                    raise item.child(key).error(f"is no column of this table.{did_you_mean(key, columns)}")
        return columns

    def _where(self, node: Node) -> tuple[Row, ...]:
        pick = read_pick(node, {*self.known, "seeds"})
        rows = tuple(row for row in self.rows if pick.matches(functools.partial(value_of, row)))
        if not rows:
            raise node.error("matches no row")
        return rows

    def _published(self, node: Node, rows: Sequence[Row]) -> dict[str, Published]:
        entries: Iterable[Node]
        if isinstance(node.value, dict):
            given = node.options(["file"])
            if "file" not in given:
                raise node.error("must be a list of entries, or {file: a CSV file}")
            entries = read_csv(self.find_file(given["file"]))
        else:
            entries = node.items("a list of entries, or {file: a CSV file}")
        picker, found = RowPicker(rows, self.known), dict[str, Published]()
        for entry in entries:
            given = entry.mapping()
            row = picker.pick(entry, {key: item for key, item in given.items() if key not in VALUE_KEYS})
            published = read_published(entry, {key: item for key, item in given.items() if key in VALUE_KEYS})
            before = found.get(row.config_id)
            for metric in published.values.keys() & (before.values if before else {}):
                raise entry.error(f"{metric} of this row is published twice in the table")
            found[row.config_id] = published.merged(before)
        return found


class RowPicker:
    """Finds the one row with given values. Rows are indexed by the keys asked for."""

    def __init__(self, rows: Sequence[Row], known: Collection[str]) -> None:
        self._rows = rows
        self._known = known
        self._indexes: dict[tuple[str, ...], dict[tuple[Any, ...], list[Row]]] = {}

    def pick(self, node: Node, entries: Mapping[str, Node]) -> Row:
        """Return the row. Raises GridError: none has these values, or several have."""
        for key, entry in entries.items():
            if key not in self._known and key != "name":
                near = did_you_mean(key, {*VALUE_KEYS, *self._known, "name"})
                raise entry.error(f"is neither an option nor a metric.{near if 'mean' in near else ''}")
        keys = tuple(sorted(entries))
        if keys not in self._indexes:
            index: dict[tuple[Any, ...], list[Row]] = {}
            for row in self._rows:
                index.setdefault(tuple(freeze(value_of(row, key)) for key in keys), []).append(row)
            self._indexes[keys] = index
        found = self._indexes[keys].get(tuple(freeze(entries[key].plain()) for key in keys), [])
        if len(found) != 1:
            raise node.error(f"must pick one row of the table by its options, picks {len(found)}")
        return found[0]


def value_of(row: Row, key: str) -> Any:
    """Return an option of a row's config, its `name`, or as `seeds` their number."""
    if key == "seeds":
        return len(row.seeds)
    return row.name if key == "name" else config_option(row.config, key)


def published_of_cases(rows: Iterable[Row]) -> dict[str, Published]:
    """Return the published values that stand beside the rows' cases, by `config_id`."""
    return {row.config_id: row.published for row in rows if row.published}


def _reported(node: Node) -> tuple[Reported, ...]:
    """Read `reported`: metrics are published values, any other key is what its column shows."""
    rows = []
    for item in node.items("a list of rows"):
        given = item.mapping("a row: a mapping of columns to what they show")
        for entry in given.values():
            if isinstance(entry.value, dict):
                raise entry.error("must be a value")
        values = {key: entry for key, entry in given.items() if key in VALUE_KEYS}
        options = {key: entry.plain() for key, entry in given.items() if key not in VALUE_KEYS}
        rows.append(Reported(options, read_published(item, values) if values else None))
    return tuple(rows)


def _headers(node: Node, columns: Collection[str]) -> dict[str, str]:
    """Read `headers`. Raises GridError: there is no such column, or it is a metric's."""
    known = [column for column in columns if column not in METRICS]
    return {key: entry.text() for key, entry in node.options(known).items()}


def _spread(node: Node) -> Spread:
    value, choices = node.text(), get_args(Spread)
    if value not in choices:
        raise node.error(f"unknown choice {value!r}.{did_you_mean(value, choices)}")
    return cast("Spread", value)


def read_columns(node: Node, rows: Sequence[Row], more: Collection[str] = ()) -> tuple[str, ...]:
    """Read the names of columns.

    Args:
        more: names that columns may have beside options, labels and metrics.

    Raises:
        GridError: no row has one, or it is named twice.
    """
    columns: list[str] = []
    for item in node.items("a list of column names"):
        name = item.text()
        if name in ("seed", "seeds"):
            raise item.error("a table's row stands for all its seeds; they are no column")
        if name in columns:
            raise item.error(f"the column {name!r} stands here twice")
        named = {*METRICS, *LABELS, *more}
        if name not in named and not any(name in row.config.flat() for row in rows):
            known = {key for row in rows for key in row.config.flat()}
            raise item.error(f"unknown column {name!r}.{nearest(name, {*named, *known})}")
        columns.append(name)
    return tuple(columns)


def default_columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the columns that tell the rows apart, and the usual metrics.

    The label of a model, or a data set, stands for its options where it tells them apart.
    """
    columns = ["name"] if any(row.name for row in rows) else []
    configs = [row.config for row in reversed(rows)]
    for field, hint in field_types(TrainConfig).items():
        # One config for each object, as equal options of two rows are mostly one object: comparing or
        # flattening every row would take long in a large grid.
        objects = dict(zip(map(id, map(operator.attrgetter(field), configs)), configs, strict=True))
        if len(objects) < 2:
            continue
        distinct = {getattr(config, field): config for config in objects.values()}
        if len(distinct) < 2:
            continue
        if field in ("model", "dataset"):
            columns.append(field)
            if len({value.label for value in distinct}) == len(distinct):
                continue
        is_nested = mapped_registry(hint) or any(isinstance(value, Options) for value in distinct)
        varying = _varying(field, list(reversed(distinct.values()))) if is_nested else [field]
        columns += [key for key in varying if key not in columns]
    return (*columns, *DEFAULT_METRICS)


def _varying(field: str, configs: Sequence[TrainConfig]) -> list[str]:
    """Return the keys of a field that take several values; one that a config lacks is off there."""
    flats = [config.flat() for config in configs]
    keys = dict.fromkeys(key for flat in flats for key in flat if key.split(".")[0] == field)
    return [
        key
        for key in keys
        if len({freeze(config_option(config, key)) for config in configs} - {Missing.ABSENT}) > 1
    ]
