"""Tables as text: Markdown, aligned for the terminal, JSON and CSV."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import re
from collections.abc import Sequence
from typing import Any

from gridrun.columns import METRICS, format_option
from gridrun.layout import Column, columns_of, each, plain, text_width
from gridrun.tables import Table


def to_markdown(table: Table) -> str:
    """Render a table for GitHub: heading, pipe table, notes. It reads as plain text too."""
    columns = [
        Column(_escape(header), each(_escape, cells), is_number)
        for header, cells, is_number in columns_of(table)
    ]
    widths = [max(3, _width(column)) for column in columns]
    rule = [
        "-" * (width - 1) + (":" if c.is_number else "-") for c, width in zip(columns, widths, strict=True)
    ]
    header, *lines = _rows(columns, widths)
    blocks = [
        re.sub(r"(?<= )(#+)$", r"\\\1", f"### {_escape(table.title)}"),  # else they close the heading
        "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *lines)),
        "\n".join(f"- {_escape(note)}" for note in table.notes),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def to_text(table: Table) -> str:
    """Render a table for the terminal: aligned columns, nothing a terminal would obey."""
    columns = columns_of(table)
    widths = [_width(column) for column in columns]
    header, *lines = _rows(columns, widths)
    rule = ["─" * width for width in widths]
    blocks = [
        plain(table.title),
        "\n".join("  ".join(cells).rstrip() for cells in (header, rule, *lines)),
        "\n".join(plain(note) for note in table.notes),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def to_json(tables: Sequence[Table]) -> str:
    """Render tables whole, as a list of their fields: errors are fractions, times seconds."""
    return json.dumps([dataclasses.asdict(table) for table in tables], indent=2, allow_nan=False) + "\n"


def to_csv(table: Table) -> str:
    """Render a table's numbers as RFC 4180: errors in percent, times in seconds, blank where none.

    Each metric has a column of its own, one for its number of runs, those of its spread where the
    table shows one, and where anything is published that value, its number of runs and the verdict.
    """
    names = [name for column in table.columns for name in _csv_names(table, column)]
    published = table.published  # looks through all lines
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["config_id", *names])
    for line in table.lines:
        values: list[Any] = [line.config_id]
        for column in table.columns:
            if column not in METRICS:
                values.append(_csv_text(line.options[column]))
                continue
            cell, metric = line.cells[column], METRICS[column]
            values += [_scaled(cell.median, metric.scale), cell.n]
            if table.spread and metric.varies:
                values += [_scaled(value, metric.scale) for value in (cell.low, cell.high, cell.std)]
            if column in published:
                values += [_scaled(cell.published, metric.scale), cell.published_runs]
                values += [cell.verdict] if metric.is_error else []
        writer.writerow(values)
    return text.getvalue()


# --- text --------------------------------------------------------------------------------------


def _rows(columns: Sequence[Column], widths: Sequence[int]) -> list[list[str]]:
    """Return header and lines, each cell padded to its column's width."""
    padded = []
    for column, width in zip(columns, widths, strict=True):
        pad = functools.partial(_padded, width=width, right=column.is_number)
        padded.append(each(pad, (column.header, *column.cells)))
    return [list(row) for row in zip(*padded, strict=True)]


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - text_width(text))
    return space + text if right else text + space


_SPECIAL = r"[\\|<*`~$\[\]]|&(?=#?\w+;)|(?<!\w)_|_(?!\w)"
# An address is a link of its own accord, and in a link escapes show: one that needs them is no link.
_MARKDOWN = re.compile(rf"{_SPECIAL}|(?::(?=//)|(?<=www)\.)(?=\S*?(?:{_SPECIAL}))", re.IGNORECASE)


def _escape(text: str) -> str:
    """Make Markdown show a text as it is."""
    return _MARKDOWN.sub(r"\\\g<0>", plain(text))


def _width(column: Column) -> int:
    return max(map(text_width, {column.header, *column.cells}))


# --- CSV ---------------------------------------------------------------------------------------


def _csv_names(table: Table, column: str) -> list[str]:
    if column not in METRICS:
        return [column]
    metric = METRICS[column]
    unit = metric.csv.removeprefix(column)
    names = [metric.csv, f"{column}_runs"]
    if table.spread and metric.varies:
        names += [f"{column}_{which}{unit}" for which in ("min", "max", "std")]
    if column in table.published:
        names += [f"published_{metric.csv}", f"published_{column}_runs"]
        names += [f"{column}_verdict"] if metric.is_error else []
    return names


def _csv_text(value: Any) -> Any:
    """Keep numbers; make a spreadsheet take text for text, never for a formula."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    text = "" if value is None else plain(format_option(value))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _scaled(value: float | None, scale: float) -> float | None:
    """Bring a value of the store to the column's unit, without digits that only binary knows."""
    return value if value is None or scale == 1 else float(f"{value * scale:.12g}")
