"""Picking rows by their options: `where`, `exclude` and the entries of `published`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from gridrun.grid.settings import freeze
from gridrun.grid.yaml import Node
from trainer.registry import did_you_mean


@dataclass(frozen=True, slots=True)
class Pick:
    """Options and the values allowed to each; `name` stands for the name of a case."""

    allowed: Mapping[str, frozenset[Any]]

    def matches(self, value_of: Callable[[str], Any]) -> bool:
        """Tell whether a row with these values is picked."""
        return all(freeze(value_of(key)) in allowed for key, allowed in self.allowed.items())


def read_pick(node: Node, known: Collection[str]) -> Pick:
    """Read a mapping from option to value, or to a list of allowed values.

    Raises:
        GridError: it is none or empty, no config has such an option, or a value is a mapping.
    """
    entries = node.mapping("a mapping of options to values")
    if not entries:
        raise node.error("must name an option")
    for key, entry in entries.items():
        if key not in known and key != "name":
            raise entry.error(f"unknown option.{nearest(key, known)}")
        if isinstance(entry.value, dict):
            raise entry.error("must be a value or a list of values; write its options as dotted keys")
    return Pick({key: _allowed(entry.plain()) for key, entry in entries.items()})


def _allowed(value: Any) -> frozenset[Any]:
    # A list is the value of an option that is one, or several values any of which will do.
    return frozenset([freeze(value), *(map(freeze, value) if isinstance(value, list) else ())])


def nearest(key: str, known: Collection[str]) -> str:
    """Return `did_you_mean` among dotted keys, of which `key` may be a last part.

    A whole choice of hundreds would help nobody: where nothing is near, the options without a dot.
    """
    ends = sorted(name for name in known if name.endswith(f".{key}"))
    if ends:
        return f" Did you mean {ends[0]!r}?"
    hint = did_you_mean(key, known)
    return hint if hint.startswith(" Did") else did_you_mean(key, [name for name in known if "." not in name])
