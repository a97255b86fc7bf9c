"""`compare` in a grid file: which row each row of a table is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gridrun.grid.describe import describe_option
from gridrun.grid.node import Node
from gridrun.grid.pick import nearest
from gridrun.grid.settings import Missing, freeze, known_keys
from gridrun.metrics import LABELS
from gridrun.text import format_option, number_of
from trainer import TrainConfig
from trainer.schema import field_types, mapped_registry

if TYPE_CHECKING:
    from gridrun.grid.rows import Row

COMPARE_KEYS = {
    "by": "The option whose values are compared, or `name`; `augmentation` means all that are switched on.",
    "to": "Its value in the rows that the others are compared with. Of `augmentation`, `none` or the names: "
    "`cutout`, `cutout+mixup`; those that every row has do not count.",
    "within": "Options that must be the same in both rows. Default: those in which rows differ that have the "
    "same value of `by`.",
}
"""Keys of `compare`, and what each means."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Which row of a table each of its rows is compared with."""

    label: str
    """Of the rows that others are compared with, such as `no cutout`."""
    baselines: Mapping[str, str]
    """By the `config_id` of a row, that of the row it is compared with."""

    def among(self, rows: Mapping[str, Row]) -> Comparison | None:
        """Return the comparison for some of the rows, which may have changed; None if there is nothing left.

        `rows` are by the ids of the rows as they were.
        """
        kept = {
            rows[ours].config_id: rows[theirs].config_id
            for ours, theirs in self.baselines.items()
            if ours in rows and theirs in rows
        }
        return replace(self, baselines=kept) if kept else None


def read_compare(
    node: Node, rows: Sequence[Row], varying: Callable[[Sequence[Row]], Sequence[str]]
) -> Comparison:
    """Read `compare`.

    Args:
        node: its mapping.
        rows: those of the table.
        varying: returns the options in which rows differ.

    Raises:
        GridError: an option is unknown, no row has the value, or a row could be compared with several.
    """
    given = node.options(COMPARE_KEYS)
    for key in ("by", "to"):
        if key not in given:
            raise node.error(f"needs `{key}`")
    by = given["by"].text()
    if by != "name" and by not in known_keys() and by not in field_types(TrainConfig):
        raise given["by"].error(f"unknown option.{nearest(by, {*known_keys(), 'name'})}")
    value_of = _value_of(by, rows)
    values = {row.config_id: freeze(value_of(row)) for row in rows}
    wanted = given["to"].plain()
    if by in _MAPPED and wanted is None:
        wanted = "none"
    found = [row for row in rows if values[row.config_id] == freeze(wanted)]
    if not found:
        shown = {
            format_option(value): None for value in map(value_of, rows) if not isinstance(value, Missing)
        }
        has = f"; {by} is {', '.join(list(shown)[:8])}" if shown else ""
        raise given["to"].error(f"no row has {by} {format_option(wanted)}{has}")
    within = _read_within(given["within"]) if "within" in given else _within(by, rows, values, varying)
    baselines: dict[Any, list[Row]] = {}
    for row in found:
        baselines.setdefault(_setting(row, within), []).append(row)
    of_rows = {}
    for row in rows:
        same = baselines.get(_setting(row, within), [])
        if values[row.config_id] == freeze(wanted) or not same:
            continue
        if len(same) > 1:
            raise node.error(
                f"{number_of(len(same), 'row')} with {by} {format_option(wanted)} could be compared with; "
                "name the options that both rows share under `within`"
            )
        of_rows[row.config_id] = same[0].config_id
    if not of_rows:
        shared = f" with the same {', '.join(within)}" if within else ""
        raise node.error(f"no other row has one with {by} {format_option(wanted)}{shared}")
    label = str(wanted) if by in ("name", *_MAPPED) else describe_option(by, wanted)
    return Comparison(label, of_rows)


_MAPPED = frozenset(field for field, hint in field_types(TrainConfig).items() if mapped_registry(hint))
"""Options that switch parts on by their names, such as `augmentation`."""


def _value_of(by: str, rows: Sequence[Row]) -> Callable[[Row], Any]:
    if by not in _MAPPED:
        return lambda row: row.option(by)
    of_rows = [{part.name for part in getattr(row.config, by)} for row in rows]
    shared = set.intersection(*of_rows) if of_rows else set()

    def value(row: Row) -> str:
        return "+".join(sorted({part.name for part in getattr(row.config, by)} - shared)) or "none"

    return value


def _read_within(node: Node) -> tuple[str, ...]:
    found = []
    for item in node.items("a list of options"):
        key = item.text()
        if key != "name" and key not in known_keys():
            raise item.error(f"unknown option.{nearest(key, {*known_keys(), 'name'})}")
        found.append(key)
    return tuple(found)


def _within(
    by: str, rows: Sequence[Row], values: Mapping[str, Any], varying: Callable[[Sequence[Row]], Sequence[str]]
) -> tuple[str, ...]:
    """Return the options in which rows of one value differ."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(values[row.config_id], []).append(row)
    options = {key: None for group in groups.values() if len(group) > 1 for key in varying(group)}
    return tuple(key for key in options if key.split(".")[0] != by)


def _setting(row: Row, within: Sequence[str]) -> tuple[Any, ...]:
    return tuple(freeze(row.column(key) if key in LABELS else row.option(key)) for key in within)
