"""Layers of settings: what `base`, a value of an axis, a case or `--set` says, one over the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from gridrun.grid.pick import nearest
from gridrun.grid.published import Published, read_published
from gridrun.grid.settings import Settings, set_option
from gridrun.grid.yaml import Node, locate, shown
from gridrun.trial import digest


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


MAX_TRIALS = 1_000_000


def read_seeds(node: Node) -> tuple[int, ...]:
    """Read a count, which stands for 0, 1, ..., or a list. Raises GridError: it is neither."""
    value = node.plain()
    count = len(value) if isinstance(value, list) else value
    if type(count) is not int or count < 1:
        got = "an empty one" if value == [] else shown(node.located)
        raise node.error(f"must be a count >= 1 or a list of whole numbers, got {got}")
    if count > MAX_TRIALS:
        raise node.error(f"{count:,} seeds are more than {MAX_TRIALS:,} trials")
    if not isinstance(value, list):
        return tuple(range(count))
    for index, seed in enumerate(value):
        read_seed(node.child(index))
        if seed in value[:index]:
            raise node.child(index).error(f"the seed {seed} stands here twice")
    return tuple(value)


def read_seed(node: Node) -> int:
    """Read one seed. Raises GridError."""
    if type(node.value) is not int or not 0 <= node.value < 2**63:
        raise node.error(f"must be a whole number >= 0, got {shown(node.located)}")
    return node.value
