"""Tables as text: Markdown, aligned for the terminal, JSON and CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

from gridrun.columns import METRICS, format_column, format_option, format_percent, header_of, parse_runs
from gridrun.tables import Cell, Table


class _Column(NamedTuple):
    """One column as it is shown."""

    header: str
    cells: list[str]
    is_number: bool


def to_markdown(table: Table) -> str:
    """Render a table for GitHub: heading, pipe table, notes. It reads as plain text too."""
    columns = [
        _Column(_escape(header), [_escape(cell) for cell in cells], is_number)
        for header, cells, is_number in _columns(table)
    ]
    widths = [max(3, _width(column)) for column in columns]
    rule = [
        "-" * (width - 1) + (":" if c.is_number else "-") for c, width in zip(columns, widths, strict=True)
    ]
    header, *lines = _rows(columns, widths)
    blocks = [
        f"### {_escape(table.title)}",
        "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *lines)),
        "\n".join(f"- {_escape(note)}" for note in table.notes),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def to_text(table: Table) -> str:
    """Render a table for the terminal: aligned columns, nothing a terminal would obey."""
    columns = _columns(table)
    widths = [_width(column) for column in columns]
    header, *lines = _rows(columns, widths)
    rule = ["─" * width for width in widths]
    blocks = [
        _plain(table.title),
        "\n".join("  ".join(cells).rstrip() for cells in (header, rule, *lines)),
        "\n".join(_plain(note) for note in table.notes),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def to_json(tables: Sequence[Table]) -> str:
    """Render tables whole, as a list of their fields: errors are fractions, times seconds."""
    return json.dumps([dataclasses.asdict(table) for table in tables], indent=2, allow_nan=False) + "\n"


def to_csv(table: Table) -> str:
    """Render a table's numbers as RFC 4180: errors in percent, times in seconds, blank where none.

    Each metric has a column of its own, one for its number of runs, and where anything is published
    that value and its number of runs.
    """
    names = [name for column in table.columns for name in _csv_names(table, column)]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["config_id", *names])
    for line in table.lines:
        values: list[Any] = [line.config_id]
        for column in table.columns:
            if column not in METRICS:
                values.append(_csv_text(line.options[column]))
                continue
            cell, scale = line.cells[column], METRICS[column].scale
            values += [_scaled(cell.median, scale), cell.n]
            if column in table.published:
                values += [_scaled(cell.published, scale), cell.published_runs]
        writer.writerow(values)
    return text.getvalue()


# --- columns -----------------------------------------------------------------------------------


def _columns(table: Table) -> list[_Column]:
    shown = []
    for column in table.columns:
        if column in METRICS:
            shown += _metric_columns(table, column)
        else:
            values = [line.options[column] for line in table.lines]
            is_number = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
            header = table.headers.get(column) or header_of(column)
            shown.append(_Column(header, [_plain(format_column(column, v)) for v in values], is_number))
    return shown


def _metric_columns(table: Table, name: str) -> list[_Column]:
    """Show a metric; beside it what was published, and for errors the difference."""
    metric = METRICS[name]
    cells = [line.cells[name] for line in table.lines]
    header = metric.header
    counted = metric.varies and metric.portable and any(cell.wanted for cell in cells)
    if counted:
        header += f" ({_runs(table.runs, 'median of ') if table.runs else 'median'})"
    if table.mixed_hardware and not metric.portable:
        header += "*"
    say_runs = counted and table.runs is None
    shown = [_Column(header, [_ours(name, cell, say_runs) for cell in cells], True)]
    if name in table.published:
        shared_runs = _shared_runs(cells)
        header = f"Published ({_runs(shared_runs)})" if shared_runs else "Published"
        shown.append(_Column(header, [_theirs(cell, shared_runs) for cell in cells], True))
        if metric.is_error:
            shown.append(_Column("Difference", [_difference(cell) for cell in cells], True))
    return shown


def _ours(name: str, cell: Cell, say_runs: bool) -> str:
    if cell.median is None:
        return ""
    text = METRICS[name].format(cell.median)
    if METRICS[name].varies and cell.n < cell.wanted:
        return f"{text} ({cell.n} of {_runs(cell.wanted)})"
    return f"{text} ({_runs(cell.n)})" if say_runs else text


def _theirs(cell: Cell, shared_runs: int | None) -> str:
    text = _plain(cell.published_text or "")
    if cell.published_runs and not shared_runs and parse_runs(text) is None:
        return f"{text} ({_runs(cell.published_runs)})"
    return text


def _shared_runs(cells: Sequence[Cell]) -> int | None:
    """Return the number of runs to say once, in the header: that of every cell, and said by none."""
    given = [cell for cell in cells if cell.published_text]
    if any(parse_runs(cell.published_text or "") for cell in given):
        return None
    runs = {cell.published_runs for cell in given}
    return runs.pop() if len(runs) == 1 else None


def _difference(cell: Cell) -> str:
    """Write ours - published in percentage points, signed."""
    if cell.difference is None:
        return ""
    text = format_percent(cell.difference)
    if float(text) == 0:
        return "0.00"
    return text if text.startswith("-") else f"+{text}"


def _runs(count: int, of: str = "") -> str:
    return "1 run" if count == 1 else f"{of}{count} runs"


def _rows(columns: Sequence[_Column], widths: Sequence[int]) -> list[list[str]]:
    """Return header and lines, each cell padded to its column's width."""
    padded = []
    for column, width in zip(columns, widths, strict=True):
        texts = [column.header, *column.cells]
        spaces = [" " * (width - _text_width(text)) for text in texts]
        padded.append([s + t if column.is_number else t + s for t, s in zip(texts, spaces, strict=True)])
    return [list(row) for row in zip(*padded, strict=True)]


# --- text --------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """Keep one line of printable text: no control, format or unpaired surrogate characters."""
    return "".join(c for c in " ".join(text.split()) if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


_MARKDOWN = re.compile(r"[\\|<*`~\[\]]|&(?=#?\w+;)|(?<!\w)_|_(?!\w)")


def _escape(text: str) -> str:
    """Make Markdown show a text as it is."""
    return _MARKDOWN.sub(r"\\\g<0>", _plain(text))


def _width(column: _Column) -> int:
    return max(map(_text_width, (column.header, *column.cells)))


def _text_width(text: str) -> int:
    """Return how many terminal columns a text takes."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


# --- CSV ---------------------------------------------------------------------------------------


def _csv_names(table: Table, column: str) -> list[str]:
    if column not in METRICS:
        return [column]
    metric = METRICS[column]
    names = [metric.csv, f"{column}_runs"]
    if column in table.published:
        names += [f"published_{metric.csv}", f"published_{column}_runs"]
    return names


def _csv_text(value: Any) -> Any:
    """Keep numbers; make a spreadsheet take text for text, never for a formula."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    text = "" if value is None else _plain(format_option(value))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _scaled(value: float | None, scale: float) -> float | None:
    """Bring a value of the store to the column's unit, without digits that only binary knows."""
    return value if value is None or scale == 1 else float(f"{value * scale:.12g}")
