"""The tables a grid file declares: which rows, which columns, and the values that others published."""

from __future__ import annotations

import collections
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from gridrun.grid.comparisons import Comparison, read_compare
from gridrun.grid.node import Node, read_or
from gridrun.grid.pick import nearest, read_pick
from gridrun.grid.published import VALUE_KEYS, Published, read_csv, read_published
from gridrun.grid.rows import Row
from gridrun.grid.settings import Missing, config_option, freeze, known_keys
from gridrun.metrics import LABELS, METRICS
from gridrun.verdicts import DEFAULT_TOLERANCE
from trainer import TrainConfig
from trainer.registry import Options, did_you_mean
from trainer.schema import field_types, mapped_registry

TABLE_KEYS = {
    "id": "Name of the table, for `gridrun why` and LaTeX. Default: the grid's name.",
    "title": "Heads the table. Default: the grid's title.",
    "where": "Which rows: options and their values, or lists of values. Default: all.",
    "columns": "Options and metrics, in the order shown. Default: what differs between rows, `test_error` "
    "and `train_time`.",
    "headers": "Headers of columns that should not have their usual one.",
    "published": "Published values: a list, each with options that pick its row, or `{file: a CSV file}`.",
    "reported": "Rows that are shown as published and never trained.",
    "source": "Where the published values come from. Default: the grid's `source`.",
    "tolerance": "Half the width, in points, of what counts as the same error as a published one. Default: "
    f"{100 * DEFAULT_TOLERANCE:g}.",
    "compare": "Compares rows with others: `{by: augmentation.cutout, to: false}` adds the difference and a "
    "verdict. Default: the grid's `compare`.",
    "mark_best": "true: the best row, and all that cannot be told from it, are in bold. Default: the grid's "
    "`mark_best`, else false.",
    "spread": "What stands beside each median. minmax: the lowest and highest run. std: the standard "
    "deviation.",
}
"""Keys of a table, and what each means."""
Spread = Literal["minmax", "std", "mean"]
"""What a cell shows beside its median: the lowest and highest run, or the standard deviation.

With `mean` it shows the mean and the standard deviation instead.
"""
DEFAULT_METRICS = ("test_error", "train_time")

FindFile = Callable[[Node], Path]


@dataclass(frozen=True, slots=True)
class Reported:
    """A row that is only reported elsewhere: it is shown and never trained."""

    options: Mapping[str, Any]
    """What the columns show that are not metrics."""
    published: Published | None


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table: what it shows, without results."""

    id: str
    title: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    published: Mapping[str, Published]
    """By `config_id`."""
    reported: tuple[Reported, ...]
    """Shown after `rows`."""
    headers: Mapping[str, str]
    """Headers of columns that do not have their usual one."""
    spread: Spread | None = None
    source: str | None = None
    """Where the published values come from."""
    tolerance: float = 100 * DEFAULT_TOLERANCE
    """Half the width, in points, of what counts as the same error as a published one."""
    compare: Comparison | None = None
    """Which rows are compared with which others."""
    mark_best: bool = False
    """Whether the best row and all that cannot be told from it are in bold."""
    columns_are_given: bool = True
    """Whether the file names the columns; if not, what all rows share stands below the table."""

    @property
    def held_out(self) -> bool:
        """Whether every row is tested on images that it holds out of the training set (`val_size`)."""
        return bool(self.rows) and not self.reported and all(row.config.num_held_out for row in self.rows)


def default_table(table_id: str, title: str, rows: Sequence[Row], given: Mapping[str, Node]) -> TableSpec:
    """Return the one table of a grid that declares none, given the file's top-level keys."""
    published = published_of_cases(rows)
    return TableSpec(
        table_id,
        title,
        tuple(rows),
        default_columns(rows),
        published,
        (),
        {},
        source=read_or(given, "source", Node.text, None),
        compare=read_or(given, "compare", lambda node: read_compare(node, rows, varying_options), None),
        mark_best=read_or(given, "mark_best", Node.flag, False),
        columns_are_given=False,
    )


def read_tables(node: Node, default: TableSpec, find_file: FindFile) -> tuple[TableSpec, ...]:
    """Read `tables`; what a table leaves out is that of `default`. Raises GridError: a table is not valid."""
    nodes = node.items("a list of tables")
    tables: dict[str, TableSpec] = {}
    for item in nodes:
        table = _read_table(item, default, find_file, is_alone=len(nodes) == 1)
        if table.id in tables:
            raise item.error(f"the id {table.id!r} is taken by another table")
        tables[table.id] = table
    return tuple(tables.values())


def _read_table(node: Node, default: TableSpec, find_file: FindFile, is_alone: bool) -> TableSpec:
    given = node.options(TABLE_KEYS)
    if "id" not in given and not is_alone:
        raise node.error("needs an `id`, as there are several tables")
    reported = read_or(given, "reported", _read_reported, ())
    rows = () if reported else default.rows
    if "where" in given:
        pick = read_pick(given["where"], also=["seeds"])
        rows = tuple(row for row in default.rows if pick.matches(row.option))
        if not rows:
            raise given["where"].error("matches no row")
    columns = _read_columns(node, given, rows, reported)
    published = published_of_cases(rows)
    if "published" in given:
        for config_id, values in _read_published(given["published"], rows, find_file).items():
            published[config_id] = values.merged(published.get(config_id))
    compare = default.compare and default.compare.among({row.config_id: row for row in rows})
    if "compare" in given:
        compare = read_compare(given["compare"], rows, varying_options)
    may_rename = [column for column in columns if column not in METRICS]
    headers = given["headers"].options(may_rename) if "headers" in given else {}
    return TableSpec(
        id=read_or(given, "id", Node.name, default.id),
        title=read_or(given, "title", Node.text, default.title),
        rows=rows,
        columns=columns,
        published=published,
        reported=reported,
        headers={key: entry.text() for key, entry in headers.items()},
        spread=read_or(given, "spread", lambda entry: entry.choice(get_args(Spread)), None),
        source=read_or(given, "source", Node.text, default.source),
        tolerance=read_or(given, "tolerance", _read_tolerance, default.tolerance),
        compare=compare,
        mark_best=read_or(given, "mark_best", Node.flag, default.mark_best),
        columns_are_given="columns" in given,
    )


def _read_tolerance(node: Node) -> float:
    if type(node.value) not in (int, float) or not 0 <= node.value <= 100:
        raise node.must_be("percentage points, such as 0.2")
    return float(node.value)


def _read_columns(
    node: Node, given: Mapping[str, Node], rows: Sequence[Row], reported: Sequence[Reported]
) -> tuple[str, ...]:
    """Read `columns`. Raises GridError: a column is unknown, or one of a reported row is missing."""
    if "columns" not in given:
        if reported:
            raise node.error("needs `columns`, as its rows are `reported`")
        return default_columns(rows)
    columns = _read_column_names(given["columns"], rows, {key for row in reported for key in row.options})
    for item, row in zip(given["reported"].items() if reported else (), reported, strict=True):
        for key in row.options:
            if key not in columns:
                raise item.child(key).error(f"is not a column of this table.{did_you_mean(key, columns)}")
    return columns


def _read_published(node: Node, rows: Sequence[Row], find_file: FindFile) -> dict[str, Published]:
    """Read `published`, by `config_id`. Raises GridError: an entry does not pick exactly one row."""
    entries: Iterable[Node]
    if isinstance(node.value, dict):
        given = node.options(["file"])
        if "file" not in given:
            raise node.error("must be a list of entries, or {file: a CSV file}")
        entries = read_csv(find_file(given["file"]))
    else:
        entries = node.items("a list of entries, or {file: a CSV file}")
    known = {*known_keys(), "name"}
    found: dict[str, Published] = {}
    indexes: dict[tuple[str, ...], dict[Any, list[Row]]] = {}  # by the keys that entries pick rows by
    for entry in entries:
        given = entry.mapping()
        picking = {key: given[key] for key in sorted(given) if key not in VALUE_KEYS}
        for key, item in picking.items():
            if key not in known:
                near = did_you_mean(key, {*VALUE_KEYS, *known})
                raise item.error(f"is neither an option nor a metric.{near if 'mean' in near else ''}")
        keys = tuple(picking)
        if keys not in indexes:
            indexes[keys] = collections.defaultdict(list)
            for row in rows:
                indexes[keys][tuple(freeze(row.option(key)) for key in keys)].append(row)
        picked = indexes[keys].get(tuple(freeze(item.plain()) for item in picking.values()), [])
        if len(picked) != 1:
            raise entry.error(f"must pick one row of the table by its options, picks {len(picked)}")
        published = read_published(entry, {key: item for key, item in given.items() if key in VALUE_KEYS})
        before = found.get(picked[0].config_id)
        for metric in published.values.keys() & (before.values if before else {}):
            raise entry.error(f"{metric} of this row is published twice in the table")
        found[picked[0].config_id] = published.merged(before)
    return found


def published_of_cases(rows: Iterable[Row]) -> dict[str, Published]:
    """Return the published values that are written in the rows' cases, by `config_id`."""
    return {row.config_id: row.published for row in rows if row.published}


def _read_reported(node: Node) -> tuple[Reported, ...]:
    """Read `reported`: metrics are published values, any other key is a column's value."""
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


def _read_column_names(node: Node, rows: Sequence[Row], more: Collection[str]) -> tuple[str, ...]:
    """Read the names of columns. `more` are allowed beside options, labels and metrics."""
    columns: list[str] = []
    named = {*METRICS, *LABELS, *more}
    for item in node.items("a list of column names"):
        name = item.text()
        if name in ("seed", "seeds"):
            raise item.error("a table's row covers all its seeds, so they are not a column")
        if name in columns:
            raise item.error(f"the column {name!r} appears twice")
        if name not in named and not any(name in row.config.flat() for row in rows):
            known = {key for row in rows for key in row.config.flat()}
            raise item.error(f"unknown column {name!r}.{nearest(name, {*named, *known})}")
        columns.append(name)
    return tuple(columns)


def default_columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the columns that tell the rows apart, and the usual metrics.

    Named rows have their name, and the options in which rows of one name differ.
    """
    if not any(row.name for row in rows):
        return (*varying_options(rows), *DEFAULT_METRICS)
    by_name: dict[str | None, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    telling = {key for same in by_name.values() if len(same) > 1 for key in varying_options(same)}
    options = [key for key in varying_options(rows) if key in telling] if telling else []
    return ("name", *options, *DEFAULT_METRICS)


def varying_options(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the columns in which the configs of rows differ.

    The column `model` or `dataset`, which shows a label, replaces the options where the labels differ.
    """
    columns: list[str] = []
    configs = [row.config for row in reversed(rows)]
    for field, hint in field_types(TrainConfig).items():
        # Rows mostly share the objects of equal options, so compare one row for each object: comparing
        # or flattening every row of a large grid would take seconds.
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
    return tuple(columns)


def _varying(field: str, configs: Sequence[TrainConfig]) -> list[str]:
    """Return the keys of a field that take several values. A config without the key is left out."""
    flats = [config.flat() for config in configs]
    keys = dict.fromkeys(key for flat in flats for key in flat if key.split(".")[0] == field)
    return [
        key
        for key in keys
        if len({freeze(config_option(config, key)) for config in configs} - {Missing.ABSENT}) > 1
    ]
