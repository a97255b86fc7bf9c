"""Picking rows by their options: `where`, `exclude` and the entries of `published`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from gridrun.grid.node import Node
from gridrun.grid.settings import freeze, known_keys
from trainer.registry import did_you_mean


@dataclass(frozen=True, slots=True)
class Pick:
    """Options and the values allowed for each; `name` stands for the name of a case."""

    allowed: Mapping[str, frozenset[Any]]

    def matches(self, value_of: Callable[[str], Any]) -> bool:
        """Return whether a row with these values is picked."""
        return all(freeze(value_of(key)) in allowed for key, allowed in self.allowed.items())


def read_pick(node: Node, also: Collection[str] = ()) -> Pick:
    """Read a mapping from option to value, or to a list of allowed values.

    Args:
        also: keys allowed beside the options of configs and `name`.

    Raises:
        GridError: it is not a mapping or empty, no config has such an option, or a value is a mapping.
    """
    entries = node.mapping("a mapping of options to values")
    if not entries:
        raise node.error("must name an option")
    known = known_keys().union(also)
    for key, entry in entries.items():
        if key not in known and key != "name":
            raise entry.error(f"unknown option.{nearest(key, known)}")
        if isinstance(entry.value, dict):
            raise entry.error("must be a value or a list of values; write its options as dotted keys")
    values = {key: entry.plain() for key, entry in entries.items()}
    # A list is either the value of an option that is a list, or several values that are all fine.
    several = {key: value if isinstance(value, list) else [] for key, value in values.items()}
    return Pick({key: frozenset(map(freeze, [value, *several[key]])) for key, value in values.items()})


def nearest(key: str, known: Collection[str]) -> str:
    """Return ` Did you mean 'x'?` for a dotted key; `key` may also be the last part of one.

    Where nothing is near, it lists the options without a dot: all of them would be hundreds.
    """
    inside = sorted(name for name in known if name.startswith(f"{key}.") and name.count(".") == 1)
    if inside:
        return f" Name one of it, such as {inside[0]!r}."
    ends = sorted(name for name in known if name.endswith(f".{key}"))
    if ends:
        return f" Did you mean {ends[0]!r}?"
    hint = did_you_mean(key, known)
    return hint if hint.startswith(" Did") else did_you_mean(key, [name for name in known if "." not in name])
