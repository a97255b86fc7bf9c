"""Layers: settings that are written together, in `base`, one value of an axis, a case or `--set`.

The settings of a row are its layers applied in turn; the last one wins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from gridrun.grid.looks import read_auto
from gridrun.grid.node import Node, locate, read_or
from gridrun.grid.pick import nearest
from gridrun.grid.published import Published, read_published
from gridrun.grid.settings import LET, Settings, set_option, settable_keys
from gridrun.trial import digest

MAX_TRIALS = 1_000_000
AXIS_KEYS = {
    "zip": "Options that are walked together: lists of the same length.",
    "cases": "Rows as they come, each with any options.",
}
"""Keys of an axis that are no options, and what each means."""
CASE_KEYS = {
    "name": "What the row is called in tables.",
    "published": "What a paper or a project reports for the row.",
    "seeds": "Seeds of the row, in place of the grid's.",
}
"""Keys of a case that are no options, and what each means."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings written together."""

    node: Node
    entries: dict[str, Node]
    name: str | None = None
    published: Published | None = None
    seeds: tuple[int, ...] | None = None
    """Seeds of the rows that the layer is part of; None: those of the grid."""
    values: dict[str, Any] = field(init=False)
    """The entries as plain data."""
    _sets: dict[str, bool] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", {key: entry.plain() for key, entry in self.entries.items()})

    def apply(self, settings: Settings) -> None:
        """Set the layer's values. Raises GridError: a dotted key names a field with nothing to change."""
        for key, value in self.values.items():
            if "." not in key:
                settings[key] = value
                continue
            try:
                set_option(settings, key, value)
            except ValueError as error:
                raise self.entries[key].error(str(error)) from None

    def sets(self, key: str) -> bool:
        """Return whether the layer sets an option, under its own key or inside a whole mapping."""
        if key not in self._sets:
            node, rest = self._nearest(key)
            self._sets[key] = node is not None and not rest
        return self._sets[key]

    def find(self, key: str) -> Node | None:
        """Return the node that sets an option; failing that, the mapping around it or one of its parts."""
        node, rest = self._nearest(key)
        if node is not None:
            return Node(node.file, ".".join([node.key, *rest]), node.located)
        return next((entry for name, entry in self.entries.items() if name.startswith(f"{key}.")), None)

    def _nearest(self, key: str) -> tuple[Node | None, list[str]]:
        """Return the innermost node that holds `key`, and the parts of `key` that are not in it."""
        parts = key.split(".")
        for length in range(len(parts), 0, -1):
            node, rest = self.entries.get(".".join(parts[:length])), parts[length:]
            while node is not None and rest and isinstance(node.value, dict) and rest[0] in node.value:
                node, rest = node.child(rest[0]), rest[1:]
            if node is not None:
                return node, rest
        return None, parts


def read_settings(node: Node) -> Layer:
    """Read a mapping from option to value. Raises GridError."""
    return read_layer(node, node.mapping("a mapping of options to values"))


def read_overrides(settings: Mapping[str, Any], also: Collection[str] = ()) -> Layer:
    """Read settings from the command line. Raises GridError: a key is unknown; `also` may be meant."""
    node = Node("--set", "", locate(dict(settings)))
    return read_layer(node, node.mapping(), also=also)


def read_case(node: Node) -> Layer:
    """Read one of `cases` or `extra`: settings, and perhaps `name`, `published` and `seeds`.

    Raises:
        GridError: it is not a mapping, is empty, or has an unknown key.
    """
    given = node.mapping("a mapping of options to values")
    entries = {key: entry for key, entry in given.items() if key not in CASE_KEYS}
    if not entries and "name" not in given:
        raise node.error("is empty")
    return dataclasses.replace(
        read_layer(node, entries, also=CASE_KEYS),
        name=read_or(given, "name", Node.text, None),
        published=read_or(given, "published", lambda entry: read_published(entry, entry.mapping()), None),
        seeds=read_or(given, "seeds", read_seeds, None),
    )


def read_layer(node: Node, entries: dict[str, Node], *, also: Collection[str] = ()) -> Layer:
    """Check the keys of settings that are written together.

    Args:
        also: keys to suggest for a misspelt one, beside those that can be set.

    Raises:
        GridError: a key is unknown, or an option is set here both whole and in part.
    """
    for key, entry in entries.items():
        if key.split(".")[0] == LET:
            _check_numbers(key, entry)
            continue
        if key in ("seed", "seeds"):
            raise entry.error("seeds are not an option: use the top-level `seeds`, or those of a case")
        if key not in settable_keys():
            raise entry.error(f"unknown option.{nearest(key, settable_keys().union(also))}")
        parts = key.split(".")
        for length in range(1, len(parts)):
            if (whole := ".".join(parts[:length])) in entries:
                raise entry.error(f"`{whole}` is set here too; write all of it in one place")
    return Layer(node, entries)


def _check_numbers(key: str, node: Node) -> None:
    """Check numbers under `let`. Raises GridError: a name is not plain, or a value no number."""
    given = {key: node} if "." in key else node.mapping("a mapping of names to numbers")
    for name, number in given.items():
        if not name.removeprefix(f"{LET}.").isidentifier():
            raise number.error("a name under `let` has letters, digits and _ only")
        if type(number.value) not in (int, float):
            raise number.must_be("a number")


# --- axes --------------------------------------------------------------------------------------


def read_axes(node: Node) -> list[list[Layer]]:
    """Read `axes`: one list of layers for each axis, in the order written.

    Raises:
        GridError: an axis is empty, repeats a value or is not a mapping; the lists of a zip differ in length.
    """
    items = [node] if isinstance(node.value, dict) else node.items("a list of axes")
    axes = []
    for item in items:
        entries = item.mapping("an axis, such as `lr: [0.1, 0.2]`")
        if not entries:
            raise item.error("is empty")
        axes += [_read_axis(key, entry) for key, entry in entries.items()]
    return axes


def _read_axis(key: str, node: Node) -> list[Layer]:
    if key == "cases":
        return [read_case(item) for item in node.items("a list of cases")]
    if key == "zip":
        return _read_zip(node)
    values, seen = _values(node), dict[str, Node]()
    for value in values:
        first = seen.setdefault(digest(value.plain()), value)
        if first is not value:
            raise value.error(f"{value.shown} appears twice (first on line {first.line})")
    return [read_layer(value, {key: value}) for value in values]


def _read_zip(node: Node) -> list[Layer]:
    columns = {key: _values(entry) for key, entry in node.mapping("a mapping of options to lists").items()}
    if columns.keys() <= {"seeds"}:
        raise node.error("needs an option beside `seeds`" if columns else "is empty")
    if len({len(values) for values in columns.values()}) > 1:
        lengths = ", ".join(f"{key} has {len(values)}" for key, values in columns.items())
        raise node.error(f"its lists must have the same length; {lengths}")
    layers = []
    for values in zip(*columns.values(), strict=True):
        entries = dict(zip(columns, values, strict=True))
        seeds = entries.pop("seeds", None)
        first = next(iter(entries.values()))
        layer = read_layer(first, entries)
        layers.append(dataclasses.replace(layer, seeds=read_seeds(seeds)) if seeds else layer)
    return layers


def _values(node: Node) -> list[Node]:
    """Return the values of a list, each under the key of the list itself: `axes[1].lr`."""
    return [Node(node.file, node.key, item.located) for item in node.items("a list of values")]


# --- seeds -------------------------------------------------------------------------------------


def read_seeds(node: Node) -> tuple[int, ...]:
    """Read a count, which stands for 0, 1, ..., a list, `auto` or how to. Raises GridError: it is none."""
    value = node.plain()
    if value == "auto" or isinstance(value, dict):
        return read_auto(node)
    count = len(value) if isinstance(value, list) else value
    if type(count) is not int or count < 1:
        got = "an empty one" if value == [] else node.shown
        raise node.error(f"must be a count >= 1, a list of whole numbers or auto, got {got}")
    if count > MAX_TRIALS:
        raise node.error(f"{count:,} seeds are more than {MAX_TRIALS:,} trials")
    if not isinstance(value, list):
        return tuple(range(count))
    seeds: dict[int, None] = {}
    for index in range(count):
        seed = node.child(index).count(least=0)
        if seed in seeds:
            raise node.child(index).error(f"the seed {seed} appears twice")
        seeds[seed] = None
    return tuple(seeds)
