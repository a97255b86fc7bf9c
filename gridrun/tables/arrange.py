"""A table in another order: its lines sorted by a column."""

from __future__ import annotations

import dataclasses
from typing import Any

from gridrun.errors import GridrunError
from gridrun.metrics import METRICS, header_of
from gridrun.tables.model import Line, Table
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


def find_column(table: Table, name: str, option: str) -> str:
    """Return the column with this name or header. Raises GridrunError: there is none."""
    names: dict[str, str] = {}
    for column in table.columns:
        header = METRICS[column].label if column in METRICS else header_of(column)
        names |= {header.casefold(): column, table.headers.get(column, header).casefold(): column}
    names |= {column: column for column in table.columns}
    if name.casefold() not in names and name not in names:
        hint = did_you_mean(name, table.columns)
        raise GridrunError(f"{option} {name}: table {table.id!r} has no such column.{hint}")
    return names.get(name) or names[name.casefold()]


def _key(line: Line, column: str) -> tuple[int, Any] | None:
    """Return what a line is sorted by: numbers before texts."""
    value = line.cells[column].median if column in METRICS else line.options[column]
    if value is None:
        return None
    return (0, value) if isinstance(value, (int, float)) else (1, str(value))
