"""Tables as text: Markdown, aligned for the terminal, JSON and CSV."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from gridrun.metrics import METRICS, Metric, format_column, header_of, parse_runs
from gridrun.tables.model import Cell, Table
from gridrun.text import format_hundredths, format_option, format_percent


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


class Column(NamedTuple):
    """One column as it is shown."""

    header: str
    cells: list[str]
    is_number: bool


def columns_of(table: Table) -> list[Column]:
    """Return a table's columns; of a metric also what was published, how ours differs and the verdict."""
    shown, published = [], table.published  # looks through all lines
    for name in table.columns:
        if name in METRICS:
            shown += _metric_columns(table, name, name in published)
        else:
            values = [line.options[name] for line in table.lines]
            is_number = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
            header = table.headers.get(name) or header_of(name)
            shown.append(Column(header, _options(name, values), is_number))
    return shown


def _options(name: str, values: Sequence[Any]) -> list[str]:
    """Write the values of an option; by their spelling, as 1, 1.0 and true are equal and lists unhashable."""
    spelled = list(map(repr, values))
    texts = {
        key: plain(format_column(name, value))
        for key, value in dict(zip(spelled, values, strict=True)).items()
    }
    return [texts[key] for key in spelled]


def each(write: Callable[[str], str], texts: Iterable[str]) -> list[str]:
    """Rewrite texts, equal ones once: a large table has many rows, but few values in a column."""
    texts = list(texts)
    written = {text: write(text) for text in set(texts)}
    return [written[text] for text in texts]


def _metric_columns(table: Table, name: str, is_published: bool) -> list[Column]:
    metric = METRICS[name]
    cells = [line.cells[name] for line in table.lines]
    if not any(line.trials for line in table.lines):  # all of it is published: nothing to set beside
        return [_published_column(metric.header, cells)]
    runs, written = table.runs, dataclasses.replace(metric, format=functools.cache(metric.format))
    ours = [_ours(table, written, cell, runs) for cell in cells]
    shown = [Column(_header(table, metric, cells), ours, True)]
    if is_published:
        shown.append(_published_column("Published", cells))
        if metric.is_error:
            shown.append(Column("Difference", [difference(cell) for cell in cells], True))
    if any(cell.verdict for cell in cells):
        shown.append(Column("Verdict", [cell.verdict or "" for cell in cells], False))
    return shown


def _published_column(name: str, cells: Sequence[Cell]) -> Column:
    shared_runs = _shared_runs(cells)
    header = f"{name} ({_runs(shared_runs)})" if shared_runs else name
    return Column(header, [published_text(cell, say_runs=not shared_runs) for cell in cells], True)


SPREADS = {"minmax": ", min–max", "std": " ± std"}
"""What a header says of the spread in its cells."""


def _header(table: Table, metric: Metric, cells: Sequence[Cell]) -> str:
    said = ""
    if metric.varies and metric.portable and any(cell.wanted for cell in cells):
        said = _runs(table.runs, "median of ") if table.runs else "median"
    if table.spread and metric.varies and any(cell.n > 1 for cell in cells):
        said = (said or "median") + SPREADS[table.spread]
    header = f"{metric.header} ({said})" if said else metric.header
    return header if metric.portable or not table.mixed_hardware else f"{header}*"


def _ours(table: Table, metric: Metric, cell: Cell, runs: int | None) -> str:
    """Write a median, its spread where that is asked for, and its runs where the header does not say them."""
    if cell.median is None:
        return ""
    text = metric.format(cell.median)
    if not metric.varies:
        return text
    asides = []
    if table.spread == "minmax" and cell.low is not None and cell.high is not None and cell.n > 1:
        asides.append(f"{metric.format(cell.low)}–{metric.format(cell.high)}")
    elif table.spread == "std" and cell.std is not None:
        text += f" ± {metric.format(cell.std)}"
    if cell.n < cell.wanted:
        asides.append(f"{cell.n} of {_runs(cell.wanted)}")
    elif metric.portable and not runs:
        asides.append(_runs(cell.n))
    return f"{text} ({'; '.join(asides)})" if asides else text


def published_text(cell: Cell, *, say_runs: bool = True) -> str:
    """Write a published value as it was printed, if wanted with its number of runs."""
    text = plain(cell.published_text or "")
    if cell.published_runs and say_runs and parse_runs(text) is None:
        return f"{text} ({_runs(cell.published_runs)})"
    return text


def _shared_runs(cells: Sequence[Cell]) -> int | None:
    """Return the number of runs to say once, in the header: that of every cell, and said by none."""
    given = [cell for cell in cells if cell.published_text]
    if any(parse_runs(cell.published_text or "") for cell in given):
        return None
    runs = {cell.published_runs for cell in given}
    return runs.pop() if len(runs) == 1 else None


def difference(cell: Cell) -> str:
    """Write ours - published in percentage points, signed: of the two as they are printed."""
    if cell.median is None or cell.published is None or cell.difference is None:
        return ""
    ours, theirs = (float(format_percent(value)) for value in (cell.median, cell.published))
    text = format_hundredths(ours - theirs)
    if float(text) == 0:
        return "0.00"
    return text if text.startswith("-") else f"+{text}"


def _runs(count: int, of: str = "") -> str:
    return "1 run" if count == 1 else f"{of}{count} runs"


def plain(text: str) -> str:
    """Keep one line of printable text: no control, format or unpaired surrogate characters."""
    line = " ".join(text.split())
    if line.isascii() and line.isprintable():
        return line
    return "".join(c for c in line if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def text_width(text: str) -> int:
    """Return how many terminal columns a text takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)
