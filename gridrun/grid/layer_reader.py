"""What holds settings in a grid file (`base`, `axes`, `extra`), read into layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from gridrun.grid.layers import Layer, read_layer
from gridrun.grid.located_yaml import locate
from gridrun.grid.node import Node, shown
from gridrun.grid.published import read_published
from gridrun.grid.seeds import read_seeds
from gridrun.trial import digest


@dataclass(frozen=True, slots=True)
class LayerReader:
    """Reads whatever holds settings."""

    known: Collection[str]
    """Every key that a setting may have."""

    def settings(self, node: Node) -> Layer:
        """Read a mapping from option to value. Raises GridError."""
        return read_layer(node, node.mapping("a mapping of options to values"), self.known)

    def case(self, node: Node) -> Layer:
        """Read one of `cases` or `extra`: settings, perhaps `name`, `seeds` and `published`.

        Raises:
            GridError: it is neither, or empty.
        """
        entries = node.mapping("a mapping of options to values")
        name, seeds, published = (entries.pop(key, None) for key in ("name", "seeds", "published"))
        if not entries and name is None:
            raise node.error("is empty")
        return read_layer(
            node,
            entries,
            self.known,
            name.text() if name else None,
            read_published(published, published.mapping()) if published else None,
            read_seeds(seeds) if seeds else None,
        )

    def overrides(self, settings: Mapping[str, Any]) -> Layer:
        """Read settings by dotted key that come from the command line. Raises GridError."""
        entries = {key: Node("--set", key, locate(value)) for key, value in settings.items()}
        return read_layer(Node("--set", "", locate(dict(settings))), entries, self.known)

    def axes(self, node: Node) -> list[list[Layer]]:
        """Read `axes`: the choices of each, in the order written.

        Raises:
            GridError: an axis is empty, repeats a value or is none; a zip is of unequal lengths.
        """
        items = [node] if isinstance(node.value, dict) else node.items("a list of axes")
        axes = []
        for item in items:
            entries = item.mapping("an axis, such as `lr: [0.1, 0.2]`")
            if not entries:
                raise item.error("is empty")
            axes += [self._axis(key, entry) for key, entry in entries.items()]
        return axes

    def _axis(self, key: str, node: Node) -> list[Layer]:
        if key == "cases":
            return [self.case(item) for item in node.items("a list of cases")]
        if key == "zip":
            return self._zip(node)
        return [read_layer(value, {key: value}, self.known) for value in _distinct(_values(node))]

    def _zip(self, node: Node) -> list[Layer]:
        columns = {
            key: _values(entry) for key, entry in node.mapping("a mapping of options to lists").items()
        }
        if columns.keys() <= {"seeds"}:
            raise node.error("needs an option beside `seeds`" if columns else "is empty")
        lengths = {key: len(values) for key, values in columns.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            raise node.error(f"its lists must be equally long; {told}")
        return [
            self._zipped(dict(zip(columns, values, strict=True)))
            for values in zip(*columns.values(), strict=True)
        ]

    def _zipped(self, entries: dict[str, Node]) -> Layer:
        seeds = entries.pop("seeds", None)
        node = next(iter(entries.values()))
        return read_layer(node, entries, self.known, seeds=read_seeds(seeds) if seeds else None)


def _values(node: Node) -> list[Node]:
    """Return the values of a list, each under the key of the list itself: `axes[1].lr`."""
    return [Node(node.file, node.key, item.located) for item in node.items("a list of values")]


def _distinct(values: list[Node]) -> list[Node]:
    seen: dict[str, Node] = {}
    for value in values:
        first = seen.setdefault(digest(value.plain()), value)
        if first is not value:
            raise value.error(f"{shown(value.located)} stands here twice (first on line {first.line})")
    return values
