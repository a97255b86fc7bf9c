"""Tables as text: Markdown, aligned for the terminal, and JSON."""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from gridrun.metrics import METRICS, Metric, format_column, header_of, metric_of, parse_runs
from gridrun.tables.model import Against, Cell, Pivot, Table
from gridrun.text import format_hundredths, format_percent, number_of, one_line


def to_markdown(table: Table) -> str:
    """Render a table for GitHub: heading, pipe table, notes. It reads as plain text too."""
    columns = [
        TextColumn(escape(column.header), in_bold(column, escape, "**{}**"), column.is_number)
        for column in text_columns(table)
    ]
    widths = [max(3, _width(column)) for column in columns]
    rule = [
        "-" * (width - 1) + (":" if column.is_number else "-")
        for column, width in zip(columns, widths, strict=True)
    ]
    header, *lines = _padded_lines(columns, widths)
    blocks = [
        re.sub(r"(?<= )(#+)$", r"\\\1", f"### {escape(table.title)}"),  # else they close the heading
        "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *lines)),
        "\n".join(f"- {escape(note)}" for note in table.notes),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def to_text(table: Table, width: int | None = None) -> str:
    """Render a table for the terminal: aligned columns, no control characters.

    Headers wrap where the table would be wider than `width`, cells never do. If that is not enough, only the
    first metric says how many runs a cell has.
    """
    columns = [column._replace(cells=marked(column)) for column in text_columns(table)]
    widths = _narrowed(columns, width)
    if width is not None and _total(widths) > width:
        columns = [column._replace(cells=marked(column)) for column in text_columns(table, brief=True)]
        widths = _narrowed(columns, width)
    wrapped = [textwrap.wrap(column.header, w) for column, w in zip(columns, widths, strict=True)]
    height = max(map(len, wrapped), default=0)
    stacked = [[""] * (height - len(lines)) + lines for lines in wrapped]
    headers = [
        [_padded(text, w, column.is_number) for text, w, column in zip(line, widths, columns, strict=True)]
        for line in zip(*stacked, strict=True)
    ]
    _, *lines = _padded_lines(columns, widths)
    rule = ["─" * w for w in widths]
    blocks = [
        one_line(table.title),
        "\n".join("  ".join(cells).rstrip() for cells in (*headers, rule, *lines)),
        "\n".join(map(one_line, table.notes)),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def to_json(tables: Sequence[Table]) -> str:
    """Render tables as a list of their fields: errors are fractions, times seconds."""
    return json.dumps([dataclasses.asdict(table) for table in tables], indent=2, allow_nan=False) + "\n"


# --- text columns --------------------------------------------------------------------------------


class TextColumn(NamedTuple):
    """One column as text, not yet padded or escaped."""

    header: str
    cells: list[str]
    is_number: bool
    bold: Sequence[bool] = ()
    """Which cells are in bold; empty: none."""


def in_bold(column: TextColumn, escape: Callable[[str], str], form: str) -> list[str]:
    """Return a column's cells escaped, with those in bold put into `form`, such as `**{}**`."""
    cells = list(map(escape, column.cells))
    bold = column.bold or [False] * len(cells)
    return [form.format(cell) if is_bold else cell for cell, is_bold in zip(cells, bold, strict=True)]


def marked(column: TextColumn) -> list[str]:
    """Return a column's cells with an arrow behind those in bold, for where there is no bold."""
    if not any(column.bold):
        return column.cells
    return [
        f"{cell} {'←' if is_bold else ' '}" for cell, is_bold in zip(column.cells, column.bold, strict=True)
    ]


def text_columns(table: Table, *, brief: bool = False) -> list[TextColumn]:
    """Return a table's columns. A metric may need more than one: published value, difference, verdict.

    `brief`: metrics behind the first one leave out a number of runs that is also that of the first.
    """
    if table.pivot:
        return _pivot_columns(table, table.pivot)
    columns, published = [], table.published
    headers = _headers(table)
    first = next((name for name in table.columns if name in METRICS), None) if brief else None
    for name in table.columns:
        if name in METRICS:
            columns += _metric_columns(table, name, name in published, first if name != first else None)
        else:
            values = [line.options[name] for line in table.lines]
            is_number = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
            cells = [one_line(format_column(name, value)) for value in values]
            columns.append(TextColumn(headers[name], cells, is_number))
    return columns


def _pivot_columns(table: Table, pivot: Pivot) -> list[TextColumn]:
    """Return one column for each value of `pivot.columns`, after that of the values of `pivot.rows`."""
    metric, rows = METRICS[pivot.metric], _values(table, pivot.rows)
    places = {
        (format_column(pivot.rows, line.options[pivot.rows]), format_column(pivot.columns, value)): line
        for line in table.lines
        if line.trials
        for value in [line.options[pivot.columns]]
    }
    found = [TextColumn(_headers(table)[pivot.rows], [one_line(text) for text in rows], False)]
    for text, value in _values(table, pivot.columns).items():
        lines = [places.get((row, text)) for row in rows]
        cells = [
            _median_text(table, metric, line.cells[pivot.metric], table.runs) if line else ""
            for line in lines
        ]
        header = text if isinstance(value, str) else f"{_headers(table)[pivot.columns]} {text}"
        found.append(TextColumn(one_line(header), cells, True))
    return found


def pivot_title(table: Table, metric: str) -> str:
    """Return the title of a matrix, which says what its cells are."""
    header = _metric_header(
        table, metric_of(metric, held_out=table.held_out), [line.cells[metric] for line in table.lines]
    )
    return f"{table.title}: {header}"


def _values(table: Table, column: str) -> dict[str, Any]:
    """Return the values of a column in the order of the lines, by how they are written."""
    values = [line.options[column] for line in table.lines if line.trials]
    return {format_column(column, value): value for value in values}


def _headers(table: Table) -> dict[str, str]:
    """Return the headers of config columns; where two would be the same, they name their fields."""
    names = [name for name in table.columns if name not in METRICS]
    short = Counter(map(header_of, names))
    return {
        name: one_line(table.headers.get(name) or header_of(name, whole=short[header_of(name)] > 1))
        for name in names
    }


def _metric_columns(table: Table, name: str, is_published: bool, told: str | None) -> list[TextColumn]:
    """Return the columns of a metric; `told` is one that says how many runs there are, if any does."""
    metric, runs = metric_of(name, held_out=table.held_out), table.runs
    cells = [line.cells[name] for line in table.lines]
    if not any(line.trials for line in table.lines):  # every row is published elsewhere
        return [_published_column(metric.header, cells)]
    medians = [
        _median_text(table, metric, cell, runs, is_told=told is not None and line.cells[told].n == cell.n)
        for line, cell in zip(table.lines, cells, strict=True)
    ]
    bold = [bool(cell.is_best) for cell in cells]
    columns = [TextColumn(_metric_header(table, metric, cells), medians, True, bold if any(bold) else ())]
    with_mean = table.spread == "mean"
    if is_published:
        columns.append(_published_column(metric.with_unit("Published"), cells))
        if metric.is_error:
            is_judged = any(cell.half_width is not None for cell in cells) and not with_mean
            header = "Difference (pp), 95 %" if is_judged else "Difference (pp)"
            differences = [difference(cell, with_mean=with_mean) for cell in cells]
            columns.append(TextColumn(header, differences, True))
    if any(cell.verdict for cell in cells):
        header = "Verdict on Medians" if with_mean else "Verdict"
        columns.append(TextColumn(header, [verdict_text(cell) for cell in cells], False))
    return [*columns, *_against_columns(table, cells)]


def _against_columns(table: Table, cells: Sequence[Cell]) -> Iterator[TextColumn]:
    """Yield the difference to the row that each row is compared with, and the verdict on it."""
    found = [cell.against for cell in cells]
    if not any(found):
        return
    of_medians = ", medians" if table.spread == "mean" else ""
    is_judged = any(one and one.half_width is not None for one in found)
    header = f"To {table.compared_with} (pp){of_medians}{', 95 %' if is_judged else ''}"
    texts = [
        _signed_points(cell.median, cell.against.median, cell.against.half_width)
        if cell.against and cell.median is not None
        else ""
        for cell in cells
    ]
    yield TextColumn(header, texts, True)
    if is_judged:
        yield TextColumn(f"Against {table.compared_with}", [verdict_text(one) for one in found], False)


_SPREADS = {"minmax": ", min–max", "std": " ± std", "mean": " ± std"}
"""What a header says about the spread in its cells."""


def _metric_header(table: Table, metric: Metric, cells: Sequence[Cell]) -> str:
    statistic, middle = "", "mean" if table.spread == "mean" else "median"
    if metric.varies and metric.portable and any(cell.wanted for cell in cells):
        statistic = _runs(table.runs, f"{middle} of ") if table.runs else middle
    if table.spread and metric.varies and any(cell.n > 1 for cell in cells):
        statistic = (statistic or middle) + _SPREADS[table.spread]
    header = f"{metric.header}, {statistic}" if statistic else metric.header
    return header if metric.portable or not table.mixed_hardware else f"{header}*"


def _median_text(table: Table, metric: Metric, cell: Cell, runs: int | None, *, is_told: bool = False) -> str:
    """Write a median, its spread if the table shows one, and its number of runs if nothing else tells it."""
    if cell.median is None:
        return ""
    shown = cell.mean if table.spread == "mean" and metric.varies else cell.median
    text = metric.format(cell.median if shown is None else shown)
    if not metric.varies:
        return text
    in_parentheses = []
    if table.spread == "minmax" and cell.low is not None and cell.high is not None and cell.n > 1:
        in_parentheses.append(f"{metric.format(cell.low)}–{metric.format(cell.high)}")
    elif table.spread in ("std", "mean") and cell.std is not None:
        text += f" ± {metric.format(cell.std)}"
    if is_told:
        pass
    elif cell.n < cell.wanted:
        in_parentheses.append(f"{cell.n} of {_runs(cell.wanted)}")
    elif metric.portable and not runs:
        in_parentheses.append(_runs(cell.n))
    return f"{text} ({'; '.join(in_parentheses)})" if in_parentheses else text


def _published_column(name: str, cells: Sequence[Cell]) -> TextColumn:
    shared_runs = _shared_runs(cells)
    header = f"{name}, {_runs(shared_runs)}" if shared_runs else name
    return TextColumn(header, [published_text(cell, with_runs=not shared_runs) for cell in cells], True)


def published_text(cell: Cell, *, with_runs: bool = True) -> str:
    """Return a published value as it was printed, by default with its number of runs."""
    text = one_line(cell.published_text or "")
    if cell.published_runs and with_runs and parse_runs(text) is None:
        return f"{text} ({_runs(cell.published_runs)})"
    return text


def _shared_runs(cells: Sequence[Cell]) -> int | None:
    """Return the number of runs that every published value has; None if they differ or a text names it."""
    given = [cell for cell in cells if cell.published_text]
    if any(parse_runs(cell.published_text or "") for cell in given):
        return None
    runs = {cell.published_runs for cell in given}
    return runs.pop() if len(runs) == 1 else None


def difference(cell: Cell, *, with_mean: bool = False) -> str:
    """Write ours - published in percentage points with its sign, computed from the two as printed.

    Ours is the median, or the mean. Where it is known, half the 95 % interval of the median's follows.
    """
    middle = cell.mean if with_mean else cell.median
    if middle is None or cell.published is None or cell.difference is None:
        return ""
    return _signed_points(middle, cell.published, None if with_mean else cell.half_width)


def _signed_points(ours: float, theirs: float, half_width: float | None) -> str:
    """Write ours - theirs in percentage points with its sign, computed from the two as printed."""
    text = format_hundredths(float(format_percent(ours)) - float(format_percent(theirs)))
    if float(text) == 0:
        text = "0.00"
    elif not text.startswith("-"):
        text = f"+{text}"
    return text if half_width is None else f"{text} ± {format_percent(half_width)}"


def verdict_text(cell: Cell | Against | None) -> str:
    """Write a verdict; of an open one, how many more seeds may settle it."""
    if cell is None or cell.verdict != "open" or cell.more_seeds is None:
        return (cell and cell.verdict) or ""
    return f"open, {number_of(cell.more_seeds, 'more seed')}"


def _runs(count: int, of: str = "") -> str:
    return "1 run" if count == 1 else f"{of}{count} runs"


# --- padding and escapes -------------------------------------------------------------------------


def _padded_lines(columns: Sequence[TextColumn], widths: Sequence[int]) -> list[list[str]]:
    """Return header and lines, each cell padded to its column's width."""
    padded = [
        [_padded(text, width, column.is_number) for text in (column.header, *column.cells)]
        for column, width in zip(columns, widths, strict=True)
    ]
    return [list(line) for line in zip(*padded, strict=True)]


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - text_width(text))
    return space + text if right else text + space


def _narrowed(columns: Sequence[TextColumn], width: int | None) -> list[int]:
    """Return the widths of columns, with headers wrapped until all fit into `width`, if they can.

    Each time, the header is wrapped that has the fewest lines afterwards.
    """
    widths = list(map(_width, columns))
    while width is not None and _total(widths) > width:
        narrower = {}
        for number, column in enumerate(columns):
            lines = textwrap.wrap(column.header, widths[number] - 1, break_long_words=False) or [""]
            least = max(map(text_width, (*lines, *column.cells)))
            if least < widths[number]:
                narrower[number] = (len(lines), least - widths[number], least)
        if not narrower:
            break
        chosen = min(narrower, key=narrower.__getitem__)
        widths[chosen] = narrower[chosen][-1]
    return widths


def _total(widths: Sequence[int]) -> int:
    """Return how wide a table is whose columns are so wide."""
    return sum(widths) + 2 * (len(widths) - 1)


def _width(column: TextColumn) -> int:
    return max(map(text_width, (column.header, *column.cells)))


def text_width(text: str) -> int:
    """Return how many terminal columns a text takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


_SPECIAL = r"[\\|<*`~$\[\]]|&(?=#?\w+;)|(?<!\w)_|_(?!\w)"
# GitHub links an address by itself, and shows escapes inside a link. So an address that needs escapes
# is kept from becoming a link: its `:` or first `.` is escaped as well.
MARKDOWN = rf"{_SPECIAL}|(?::(?=//)|(?<=www)\.)(?=\S*?(?:{_SPECIAL}))"
"""A pattern of what Markdown shows only behind a backslash. Ignores case."""
_MARKDOWN = re.compile(MARKDOWN, re.IGNORECASE)


def escape(text: str) -> str:
    """Make Markdown show a text as it is."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text))
