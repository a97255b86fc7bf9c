"""One place in a grid file: a value with all an error message needs to point at it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridrun.errors import GridError
from gridrun.grid.located_yaml import Located
from trainer.registry import did_you_mean


@dataclass(frozen=True, slots=True)
class Node:
    """A value, the file it stands in and its key there, such as `axes[1].lr`."""

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

    def error(self, problem: str) -> GridError:
        """Return the error that says what is wrong here."""
        return GridError(self.file, self.line, self.key, problem)

    def child(self, key: str | int) -> Node:
        """Return an entry of a mapping or an item of a list."""
        if isinstance(key, int):
            return Node(self.file, f"{self.key}[{key}]", self.value[key])
        return Node(self.file, f"{self.key}.{key}" if self.key else key, self.value[key])

    def mapping(self, what: str = "a mapping") -> dict[str, Node]:
        """Return the entries. Raises GridError: this is no mapping."""
        if not isinstance(self.value, dict):
            raise self.error(f"must be {what}, got {shown(self.located)}")
        return {key: self.child(key) for key in self.value}

    def options(self, known: Iterable[str]) -> dict[str, Node]:
        """Return the entries. Raises GridError: no mapping, or a key is none of `known`."""
        entries, known = self.mapping(), tuple(known)
        for key, node in entries.items():
            if key not in known:
                raise node.error(f"unknown key.{did_you_mean(key, known)}")
        return entries

    def items(self, what: str = "a list") -> list[Node]:
        """Return the items. Raises GridError: this is no list, or an empty one."""
        if not isinstance(self.value, list):
            raise self.error(f"must be {what}, got {shown(self.located)}")
        if not self.value:
            raise self.error(f"must be {what}, got an empty one")
        return [self.child(index) for index in range(len(self.value))]

    def text(self) -> str:
        """Return the value. Raises GridError: it is no text, or blank."""
        if not isinstance(self.value, str):
            raise self.error(f"must be text, got {shown(self.located)}; quote it to mean text")
        if not self.value.strip():
            raise self.error("must not be blank")
        return self.value

    def plain(self) -> Any:
        """Return the value as plain data."""
        return self.located.plain()


def read_name(node: Node) -> str:
    """Read a name that can stand in a file name. Raises GridError: it cannot."""
    name = node.text()
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name):
        raise node.error(f"may hold letters, digits, `_`, `-` and `.` only, got {name!r}")
    return name


def shown(located: Located) -> str:
    """Return a value as an error message shows it."""
    value = located.value
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
