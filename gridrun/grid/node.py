"""Values of a grid file with their place: every error of a reader names file, line and key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gridrun.errors import GridError
from trainer.registry import did_you_mean

T = TypeVar("T")
DefaultT = TypeVar("DefaultT")
ChoiceT = TypeVar("ChoiceT", bound=str)


@dataclass(frozen=True, slots=True)
class Located:
    """A value and its line.

    `value` is a scalar, a list of Located or a dict from text to Located. `line` counts from 1; an
    entry of a mapping has the line of its key. 0: not from a file.
    """

    value: Any
    line: int = 0

    def plain(self) -> Any:
        """Return the value without its lines."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value


def locate(value: Any) -> Located:
    """Wrap plain data that comes from no file."""
    if isinstance(value, dict):
        return Located({key: locate(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return Located([locate(item) for item in value])
    return Located(value)


@dataclass(frozen=True, slots=True)
class Node:
    """A value, its file and its key there, such as `axes[1].lr`. Errors name all three."""

    file: Path | str
    key: str
    located: Located

    @property
    def value(self) -> Any:
        """The value as `Located` holds it."""
        return self.located.value

    @property
    def line(self) -> int:
        """Counted from 1; 0: not from a file."""
        return self.located.line

    def plain(self) -> Any:
        """Return the value without its lines."""
        return self.located.plain()

    def error(self, problem: str) -> GridError:
        """Return the error that says what is wrong here."""
        return GridError(self.file, self.line, self.key, problem)

    def must_be(self, what: str) -> GridError:
        """Return the error `must be ..., got ...`."""
        return self.error(f"must be {what}, got {self.shown}")

    @property
    def shown(self) -> str:
        """The value as an error message shows it."""
        value = self.value
        if value is None:
            return "nothing"
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, (dict, list)):
            return "a mapping" if isinstance(value, dict) else "a list"
        text = repr(value)
        return text if len(text) <= 60 else text[:57] + "..."

    def child(self, key: str | int) -> Node:
        """Return an entry of a mapping or an item of a list."""
        if isinstance(key, int):
            return Node(self.file, f"{self.key}[{key}]", self.value[key])
        return Node(self.file, f"{self.key}.{key}" if self.key else key, self.value[key])

    def mapping(self, what: str = "a mapping") -> dict[str, Node]:
        """Return the entries. Raises GridError: this is not a mapping."""
        if not isinstance(self.value, dict):
            raise self.must_be(what)
        return {key: self.child(key) for key in self.value}

    def options(self, known: Iterable[str]) -> dict[str, Node]:
        """Return the entries. Raises GridError: this is not a mapping, or a key is not in `known`."""
        entries, known = self.mapping(), tuple(known)
        for key, node in entries.items():
            if key not in known:
                raise node.error(f"unknown key.{did_you_mean(key, known)}")
        return entries

    def items(self, what: str = "a list") -> list[Node]:
        """Return the items. Raises GridError: this is not a list, or an empty one."""
        if not isinstance(self.value, list):
            raise self.must_be(what)
        if not self.value:
            raise self.error(f"must be {what}, got an empty one")
        return [self.child(index) for index in range(len(self.value))]

    def mappings(self) -> list[Node]:
        """Return the items. Raises GridError: this is not a list, or an empty one."""
        return self.items("a list of mappings")

    def one_or_more(self) -> list[Node]:
        """Return the items of a list, or this node where it is not a list. Raises GridError: no items."""
        return self.items() if isinstance(self.value, list) else [self]

    def distinct(self, check: Callable[[Node, str], None]) -> tuple[str, ...]:
        """Return one text or a list of them, each checked. Raises GridError: one appears twice."""
        found: dict[str, None] = {}
        for item in self.one_or_more():
            check(item, text := item.text())
            if text in found:
                raise item.error(f"{text!r} appears twice")
            found[text] = None
        return tuple(found)

    def text(self) -> str:
        """Return the value. Raises GridError: it is not text, or blank."""
        if not isinstance(self.value, str):
            raise self.error(f"must be text, got {self.shown}; quote it to mean text")
        if not self.value.strip():
            raise self.error("must not be blank")
        return self.value

    def name(self) -> str:
        """Return the value. Raises GridError: it is not text that can be part of a file name."""
        name = self.text()
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name):
            raise self.error(f"may hold letters, digits, `_`, `-` and `.` only, got {name!r}")
        return name

    def choice(self, choices: tuple[ChoiceT, ...], what: str = "choice") -> ChoiceT:
        """Return the value. Raises GridError: it is none of the choices."""
        value = self.text()
        for choice in choices:
            if value == choice:
                return choice
        raise self.error(f"unknown {what} {value!r}.{did_you_mean(value, choices)}")

    def flag(self) -> bool:
        """Return the value. Raises GridError: it is neither true nor false."""
        if not isinstance(self.value, bool):
            raise self.must_be("true or false")
        return self.value

    def count(self, least: int) -> int:
        """Return the value. Raises GridError: it is not a whole number, or below `least`."""
        if type(self.value) is not int or not least <= self.value < 2**63:
            raise self.must_be(f"a whole number >= {least}")
        return self.value


def read_or(
    entries: Mapping[str, Node], key: str, read: Callable[[Node], T], default: DefaultT
) -> T | DefaultT:
    """Read an entry, such as `read_or(given, "title", Node.text, name)`; without it, return the default."""
    return read(entries[key]) if key in entries else default
