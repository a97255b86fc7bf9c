"""A table laid out otherwise: its lines sorted by a column, or as a matrix of two options."""

from __future__ import annotations

import dataclasses
from typing import Any

from gridrun.errors import GridrunError
from gridrun.grid.describe import varying_columns
from gridrun.metrics import METRICS, format_column, header_of, metric_of
from gridrun.tables.model import Line, Pivot, Table
from gridrun.tables.render import pivot_title
from trainer.registry import did_you_mean


def sort_lines(table: Table, by: str) -> Table:
    """Return a table with its lines sorted; those without a value, and those only reported, come last.

    Args:
        table: any table.
        by: the name or header of one of its columns, for the largest first after a `-`: `-test_error`.

    Raises:
        GridrunError: the table has no such column.
    """
    column, descending = find_column(table, by.removeprefix("-"), "--sort"), by.startswith("-")
    trained = [line for line in table.lines if line.trials]
    keys = {id(line): _key(line, column) for line in trained}
    known = [line for line in trained if keys[id(line)] is not None]
    known.sort(key=lambda line: keys[id(line)], reverse=descending)  # type: ignore[arg-type, return-value]
    unknown = [line for line in trained if keys[id(line)] is None]
    reported = [line for line in table.lines if not line.trials]
    return dataclasses.replace(table, lines=(*known, *unknown, *reported))


def pivot(table: Table, rows: str, columns: str) -> Table:
    """Return a table as a matrix of its first metric: lines by one option, columns by another.

    It shows nothing published, and no rows that are only reported.

    Raises:
        GridrunError: the table has no such columns or no metric, or two of its lines have one place.
    """
    rows, columns = (find_column(table, name, "--pivot") for name in (rows, columns))
    metrics = [column for column in table.columns if column in METRICS]
    if rows == columns or rows in METRICS or columns in METRICS or not metrics:
        raise GridrunError(f"--pivot {rows} {columns}: takes two different options of a table with a metric")
    places: dict[tuple[str, str], int] = {}
    for number, line in enumerate(table.lines, 1):
        if not line.trials:
            continue
        place = format_column(rows, line.options[rows]), format_column(columns, line.options[columns])
        other = places.setdefault(place, number)
        if other != number:
            first = table.lines[other - 1].options
            names = varying_columns(list(first), [first, line.options])
            differ = f"; they differ in {', '.join(names)}, which --where can choose" if names else ""
            which = f"rows {other} and {number} of {table.id!r}"
            raise GridrunError(f"--pivot: {which} have the same {rows} and {columns}{differ}")
    others = tuple(metric_of(column, held_out=table.held_out).label for column in metrics[1:])
    hidden = (*others, *(f"* {label}" for label in others))
    of_trials = (note for note in table.notes if note not in table.published_notes)
    kept = tuple(note for note in of_trials if not note.startswith(hidden))
    also = ["published values are not shown here"] if table.published else []
    return dataclasses.replace(
        table,
        title=pivot_title(table, metrics[0]),
        notes=(*kept, *also),
        pivot=Pivot(rows=rows, columns=columns, metric=metrics[0]),
    )


def find_column(table: Table, name: str, option: str) -> str:
    """Return the column with this name or header. Raises GridrunError: there is none."""
    names: dict[str, str] = {}
    for column in table.columns:
        is_metric = column in METRICS
        header = metric_of(column, held_out=table.held_out).label if is_metric else header_of(column)
        names |= {header.casefold(): column, table.headers.get(column, header).casefold(): column}
    names |= {column: column for column in table.columns}
    if name.casefold() not in names and name not in names:
        hint = did_you_mean(name, table.columns)
        raise GridrunError(f"{option} {name}: table {table.id!r} has no such column.{hint}")
    return names.get(name) or names[name.casefold()]


def _key(line: Line, column: str) -> tuple[bool, Any] | None:
    """Return what a line is sorted by: whether it is a text, since numbers come first, and its value."""
    value = line.cells[column].median if column in METRICS else line.options[column]
    if value is None:
        return None
    return (False, value) if isinstance(value, (int, float)) else (True, str(value))
