"""Tables as CSV: numbers, for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from gridrun.metrics import METRICS
from gridrun.tables.model import Cell, Table
from gridrun.tables.render import text_columns
from gridrun.text import format_option, one_line


def to_csv(table: Table) -> str:
    """Render a table's numbers as RFC 4180: errors in percent, times in seconds, blank where none.

    Each metric has a column for its median and one for its number of runs. There are more for its spread
    if the table shows one, for the published value, its runs, the difference, half its 95 % interval and the
    verdict if anything is published, for the same against another row, and for whether it is marked as best.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    if table.pivot:
        columns = text_columns(table)
        writer.writerow([column.header for column in columns])
        writer.writerows(zip(*(map(_value, column.cells) for column in columns), strict=True))
        return text.getvalue()
    names = ["config_id"]
    lines: list[list[Any]] = [[line.config_id] for line in table.lines]
    for column in table.columns:
        if column not in METRICS:
            names.append(column)
            for values, line in zip(lines, table.lines, strict=True):
                values.append(_value(line.options[column]))
            continue
        cells = [line.cells[column] for line in table.lines]
        found = [dict(numbers) for numbers in _numbers(table, column, cells)]
        shown = dict.fromkeys(key for one in found for key in one)
        names += shown
        for values, one in zip(lines, found, strict=True):
            values += [one[key] for key in shown]
    writer.writerow(names)
    writer.writerows(lines)
    return text.getvalue()


def _numbers(table: Table, column: str, cells: Sequence[Cell]) -> Iterator[Iterator[tuple[str, Any]]]:
    """Yield for each cell of a metric its numbers with their names, which are the same for all cells."""
    metric, is_published = METRICS[column], column in table.published
    is_compared = any(cell.against for cell in cells)
    is_marked = any(cell.is_best is not None for cell in cells)

    def scaled(what: str, value: float | None) -> tuple[str, Any]:
        return f"{what}{metric.suffix}", _scaled(value, metric.scale)

    def of(cell: Cell) -> Iterator[tuple[str, Any]]:
        yield scaled(column, cell.median)
        yield f"{column}_runs", cell.n
        if table.spread and metric.varies:
            if table.spread == "mean":
                yield scaled(f"{column}_mean", cell.mean)
            yield scaled(f"{column}_min", cell.low)
            yield scaled(f"{column}_max", cell.high)
            yield scaled(f"{column}_std", cell.std)
        if is_published:
            yield scaled(f"published_{column}", cell.published)
            yield f"published_{column}_runs", cell.published_runs
            if metric.is_error:
                yield f"{column}_difference_pp", _scaled(cell.difference, 100.0)
                yield f"{column}_half_width_pp", _scaled(cell.half_width, 100.0)
                yield f"{column}_verdict", cell.verdict
        if is_compared:
            found = cell.against
            yield f"{column}_against_pp", _scaled(found.difference, 100.0) if found else None
            yield f"{column}_against_half_width_pp", _scaled(found.half_width, 100.0) if found else None
            yield f"{column}_against_verdict", found.verdict if found else None
        if is_marked:
            yield f"{column}_is_best", None if cell.is_best is None else int(cell.is_best)

    return map(of, cells)


def _value(value: Any) -> Any:
    """Keep numbers; quote text that a spreadsheet would take for a formula."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    text = "" if value is None else one_line(format_option(value))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _scaled(value: float | None, scale: float) -> float | None:
    """Convert a value from the store's unit to the column's, without binary rounding noise."""
    return value if value is None or scale == 1 else float(f"{value * scale:.12g}")
