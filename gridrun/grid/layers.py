"""Layers of settings: what `base`, a value of an axis, a case or `--set` says, one over the other."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from gridrun.grid.node import Node
from gridrun.grid.pick import nearest
from gridrun.grid.published import Published
from gridrun.grid.settings import Settings, set_option


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings written together."""

    node: Node
    entries: dict[str, Node]
    name: str | None = None
    published: Published | None = None
    seeds: tuple[int, ...] | None = None
    """Of the rows that it is part of; None leaves them to the grid."""
    values: dict[str, Any] = field(init=False)
    """The entries as plain data."""
    _sets: dict[str, bool] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", {key: entry.plain() for key, entry in self.entries.items()})

    def apply(self, settings: Settings) -> None:
        """Set what the layer says. Raises GridError: a dotted key, and nothing there to change."""
        for key, value in self.values.items():
            if "." not in key:
                settings[key] = value
                continue
            try:
                set_option(settings, key, value)
            except ValueError as error:
                raise self.entries[key].error(str(error)) from None

    def sets(self, key: str) -> bool:
        """Tell whether the layer says what the option is, by its key or within a whole mapping."""
        if key not in self._sets:
            node, rest = self._nearest(key)
            self._sets[key] = node is not None and not rest
        return self._sets[key]

    def find(self, key: str) -> Node | None:
        """Return the place that is to blame for an option: its own, or what holds it or part of it."""
        node, rest = self._nearest(key)
        if node is not None:
            return Node(node.file, ".".join([node.key, *rest]), node.located)
        return next((entry for name, entry in self.entries.items() if name.startswith(f"{key}.")), None)

    def _nearest(self, key: str) -> tuple[Node | None, list[str]]:
        """Return the innermost place that holds `key`, and the parts of `key` it does not go into."""
        parts = key.split(".")
        for length in range(len(parts), 0, -1):
            node, rest = self.entries.get(".".join(parts[:length])), parts[length:]
            while node is not None and rest and isinstance(node.value, dict) and rest[0] in node.value:
                node, rest = node.child(rest[0]), rest[1:]
            if node is not None:
                return node, rest
        return None, parts


def read_layer(
    node: Node,
    entries: dict[str, Node],
    known: Collection[str],
    name: str | None = None,
    published: Published | None = None,
    seeds: tuple[int, ...] | None = None,
) -> Layer:
    """Check the keys of settings that are written together.

    Args:
        node: what holds the entries.
        known: every key a setting may have.

    Raises:
        GridError: a key is unknown, or is set here both whole and in part.
    """
    for key, entry in entries.items():
        if key in ("seed", "seeds"):
            raise entry.error("seeds are an axis of their own: use the top-level `seeds`, or those of a case")
        if key not in known:
            raise entry.error(f"unknown option.{nearest(key, known)}")
        parts = key.split(".")
        for length in range(1, len(parts)):
            if (whole := ".".join(parts[:length])) in entries:
                raise entry.error(f"`{whole}` is set beside it; write all of it in one place")
    return Layer(node, entries, name, published, seeds)
