"""Tables as the page shows them: the columns of the README, and hidden ones to filter and plot by."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gridrun.grid.describe import varying_columns
from gridrun.metrics import METRICS, Metric, format_column, header_of, metric_of
from gridrun.tables.build import build_table
from gridrun.tables.notes import line_labels
from gridrun.tables.render import marked, text_columns
from gridrun.text import one_line

if TYPE_CHECKING:
    from gridrun.grid import Grid, TableSpec
    from gridrun.store.records import Record
    from gridrun.tables.model import Cell, Table

MAX_VALUES_SHOWN = 12
"""Runs that the text over a cell lists."""
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


class Column(NamedTuple):
    """One column of the page."""

    title: str
    texts: Sequence[str]
    keys: Sequence[float | None] | None
    """What a numeric column is sorted, filtered and plotted by, in the unit of its header."""
    role: str
    """option, metric (the first column of one), beside (a metric's other columns) or about."""
    visible: bool
    hover: Sequence[str] = ()


def page_table(
    grid: Grid, spec: TableSpec, table: Table, records: Mapping[str, Record], numbers: Mapping[str, int]
) -> dict[str, Any]:
    """Return one table as JSON: column by column, in the order of its lines.

    Args:
        grid: the grid of the table.
        spec: what the table shows.
        table: what is built of that.
        records: of the trials that have ended, by trial id.
        numbers: the place of each trial in the page's list of trials, by trial id.
    """
    columns = [*_shown(table), *_other_options(spec, table), *_other_metrics(spec, table, records)]
    columns.append(
        Column("config id", [line.config_id for line in table.lines], None, "about", visible=False)
    )
    label = line_labels(spec.columns, table.lines[: len(spec.rows)] or table.lines)
    return {
        "id": table.id,
        "title": one_line(table.title),
        "grid": grid.name,
        "notes": [one_line(note) for note in table.notes],
        "columns": [_definition(number, column) for number, column in enumerate(columns)],
        "texts": [column.texts for column in columns],
        "keys": [column.keys for column in columns],
        "hover": [column.hover for column in columns],
        "labels": [one_line(label(line)) for line in table.lines],
        "configs": [line.config_id for line in table.lines],
        "trials": [[numbers[i] for i in line.trials.values()] for line in table.lines],
    }


def _definition(number: int, column: Column) -> dict[str, Any]:
    """Return the options of Tabulator for a column, and what the page's own code needs beside them."""
    is_number = column.keys is not None
    logs = _spans_decades([key for key in column.keys or () if key is not None])
    return {
        "title": column.title,
        "field": f"c{number}",
        "visible": column.visible,
        "hozAlign": "right" if is_number else "left",
        "headerHozAlign": "right" if is_number else "left",
        "headerWordWrap": True,
        "headerFilter": "input",
        "headerFilterPlaceholder": ">, <, a..b" if is_number else "filter",
        "headerFilterParams": {"elementAttributes": {"aria-label": f"Filter {column.title}"}},
        "page": {"number": is_number, "role": column.role, "log": logs},
    }


def _spans_decades(keys: Sequence[float]) -> bool:
    """Return whether values are best seen on a logarithmic axis."""
    return len(set(keys)) > 2 and min(keys) > 0 and max(keys) >= 50 * min(keys)


def _shown(table: Table) -> list[Column]:
    """Return the table's own columns, as text and as numbers."""
    found = []
    for name in table.columns:
        columns = text_columns(dataclasses.replace(table, columns=(name,)))
        for place, column in enumerate(columns):
            title, cells, is_number = one_line(column.header), marked(column), column.is_number
            if name not in METRICS:
                values = [line.options[name] for line in table.lines]
                found.append(Column(title, cells, _numbers(values), "option", visible=True))
                continue
            metric, own = METRICS[name], [line.cells[name] for line in table.lines]
            keys: Sequence[float | None] | None = None
            if place == 0 and any(cell.median is not None for cell in own):
                keys = [_scaled(cell.median, metric) for cell in own]
            elif is_number:
                keys = [_key(text, metric) for text in cells]
            hover = [cell_text(metric, cell) for cell in own] if place == 0 else ()
            found.append(Column(title, cells, keys, "beside" if place else "metric", True, hover))
    return found


def _other_options(spec: TableSpec, table: Table) -> list[Column]:
    """Return a hidden column for each option in which the rows differ and that the table does not show."""
    configs = [row.config.flat() for row in spec.rows]
    if not configs:
        return []
    keys = [key for key in dict.fromkeys(key for one in configs for key in one) if key not in spec.columns]
    filled = [{key: one.get(key) for key in keys} for one in configs]
    padding = [""] * (len(table.lines) - len(configs))  # rows that are only reported elsewhere
    columns = []
    for key in varying_columns(keys, filled):
        values = [one[key] for one in filled]
        texts = ["" if value is None else one_line(format_column(key, value)) for value in values]
        title = one_line(header_of(key, whole=True))
        columns.append(
            Column(title, [*texts, *padding], _numbers([*values, *padding]), "option", visible=False)
        )
    return columns


def _other_metrics(spec: TableSpec, table: Table, records: Mapping[str, Record]) -> list[Column]:
    """Return a hidden column for each metric that is measured and that the table does not show."""
    names = tuple(name for name in METRICS if name not in spec.columns and not METRICS[name].error)
    wide = build_table(dataclasses.replace(spec, columns=names, reported=()), records)
    columns = []
    for name in names:
        metric = metric_of(name, held_out=wide.held_out)
        cells = [line.cells[name] for line in wide.lines]
        if all(cell.median is None for cell in cells):
            continue
        padding = len(table.lines) - len(cells)
        columns.append(
            Column(
                one_line(metric.header),
                [*("" if c.median is None else metric.format(c.median) for c in cells), *[""] * padding],
                [*(_scaled(cell.median, metric) for cell in cells), *[None] * padding],
                "metric",
                visible=False,
                hover=[*(cell_text(metric, cell) for cell in cells), *[""] * padding],
            )
        )
    return columns


def cell_text(metric: Metric, cell: Cell) -> str:
    """Say which runs a cell is of, and how they spread: `3 of 3 runs, 4.85 to 5.02, std 0.09: 4.85, ...`."""
    if not cell.wanted:
        return ""
    words = [f"{cell.n} of {cell.wanted} runs"]
    if metric.varies and cell.n > 1 and cell.low is not None and cell.high is not None:
        words.append(f"{metric.format(cell.low)} to {metric.format(cell.high)}")
        if cell.std is not None:
            words.append(f"std {metric.format(cell.std)}")
    values = [metric.format(value) for value in cell.values.values()]
    more = ", ..." if len(values) > MAX_VALUES_SHOWN else ""
    listed = f": {', '.join(values[:MAX_VALUES_SHOWN])}{more}" if values and metric.varies else ""
    return f"{', '.join(words)}{listed}"


def _numbers(values: Sequence[Any]) -> list[float | None] | None:
    """Return the numbers of a column; None if it has none, or texts beside them that are no placeholder."""
    numbers = [_number(value) for value in values]
    texts = {value for value in values if isinstance(value, str)} - {"", "N/A"}
    return None if texts or all(number is None for number in numbers) else numbers


def _number(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None


def _key(text: str, metric: Metric) -> float | None:
    """Return the number that a cell begins with, such as 4.91 of `4.91 (2 of 3 runs)`; a time in seconds."""
    word = text.split(" ")[0]
    if found := _NUMBER.fullmatch(word.lstrip("[(").rstrip(",")):
        return float(found[0].replace(",", ""))
    return _scaled(metric.parse_text(word), metric)


def _scaled(value: float | None, metric: Metric) -> float | None:
    """Convert a value from the store's unit to the column's, without binary rounding noise."""
    return None if value is None else float(f"{value * metric.scale:.12g}")
