"""Published values: what a paper or a project reports for a row of a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gridrun.errors import GridError
from gridrun.grid.node import Located, Node, read_or
from gridrun.grid.yaml import read_text
from gridrun.metrics import METRICS
from trainer.registry import did_you_mean

VALUE_KEYS = {
    **{name: f"{metric.header}, as printed." for name, metric in METRICS.items()},
    "paper": "The original paper's value, as printed, beside somebody else's reproduction.",
    "runs": "Number of runs behind the values.",
    "note": "Printed below the table.",
}
"""Keys of a published entry that hold its values, and what each means; all others pick the row."""


@dataclass(frozen=True, slots=True)
class Published:
    """The values that a paper or a project reports for a row."""

    values: Mapping[str, float | str]
    """By metric. Errors in percent; text, such as `1h26m`, as printed."""
    runs: int | None = None
    """Number of runs behind the values."""
    note: str | None = None
    paper: str | None = None
    """The original paper's value, as printed, where `values` come from somebody else's reproduction."""
    place: str | None = field(default=None, compare=False)
    """File and line of the entry."""

    def merged(self, other: Published | None) -> Published:
        """Return these values, completed by those of `other`."""
        if other is None:
            return self
        return Published(
            {**other.values, **self.values},
            self.runs or other.runs,
            self.note or other.note,
            self.paper or other.paper,
            ", ".join(dict.fromkeys(place for place in (self.place, other.place) if place)) or None,
        )


def read_published(node: Node, entries: Mapping[str, Node]) -> Published:
    """Read metrics, `paper`, `runs` and `note` of the mapping `node`.

    Raises:
        GridError: a key is not in VALUE_KEYS, a value is out of range, or there is no metric and no `paper`.
    """
    for key, entry in entries.items():
        if key not in VALUE_KEYS:
            raise entry.error(f"unknown key.{did_you_mean(key, VALUE_KEYS)}")
    values = {key: _metric(key, entry) for key, entry in entries.items() if key in METRICS}
    if not values and "paper" not in entries:
        raise node.error(f"must give a metric, one of {', '.join(METRICS)}")
    return Published(
        values,
        runs=read_or(entries, "runs", lambda entry: entry.count(least=1), None),
        note=read_or(entries, "note", Node.text, None),
        paper=read_or(entries, "paper", Node.text, None),
        place=f"{node.file}:{node.line}",
    )


def _metric(name: str, node: Node) -> float | str:
    value = node.value
    if isinstance(value, str) and any(character.isdigit() for character in value):
        return value  # as printed: `1h26m`, `~3.75`
    if type(value) not in (int, float):
        raise node.must_be("a number, or text with one such as 1h26m")
    if value < 0 or (METRICS[name].is_error and value > 100):
        raise node.error(f"must be {'in 0..100, percent' if value > 100 else '>= 0'}, got {value}")
    return float(value)


def read_csv(path: Path) -> Iterator[Node]:
    """Read a CSV file: one mapping for each line, by the names in the header; empty cells are left out.

    Raises:
        GridError: the file cannot be read or is not such a table.
    """
    text = read_text(path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            if header is None and cells:
                header = _header(path, line, [cell.strip() for cell in cells])
            elif header is not None and cells:
                if len(cells) != len(header):
                    raise GridError(path, line, "", f"has {len(cells)} cells, the header {len(header)}")
                given = {key: cell.strip() for key, cell in zip(header, cells, strict=True) if cell.strip()}
                located = {key: Located(_cell(key, cell), line) for key, cell in given.items()}
                yield Node(path, "", Located(located, line))
            line = reader.line_num + 1
    except csv.Error as error:
        raise GridError(path, line, "", f"not CSV: {error}") from None
    if header is None:
        raise GridError(path, 1, "", "is empty")


def _header(path: Path, line: int, names: list[str]) -> list[str]:
    for index, name in enumerate(names):
        if not name or not name.isprintable():
            raise GridError(path, line, "", f"column {index + 1} needs a plain name, got {name!r}")
        if name in names[:index]:
            raise GridError(path, line, name, "appears twice in the header")
    return names


def _cell(key: str, text: str) -> bool | int | float | str:
    """Read a number, true or false. Anything else is text, and so are `name`, `note` and `paper`."""
    if key in ("name", "note", "paper"):
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if abs(number) < 2**63 and "_" not in text:
            return number
    return text
