"""The files of one grid: the grid file, what it includes, and its CSV tables."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gridrun.errors import GridError
from gridrun.grid.running import RUNNING_KEYS
from gridrun.grid.yaml import Node, load_yaml, parse_yaml
from trainer.registry import did_you_mean

INCLUDED_KEYS = ("base", "derive", "include", "profiles", "seeds")
GRID_KEYS = (
    *INCLUDED_KEYS,
    *(
        "name",
        "title",
        "description",
        "source",
        "axes",
        "exclude",
        "extra",
        "tables",
        "plots",
        "keep_checkpoint",
    ),
    *RUNNING_KEYS,
)
MAX_INCLUDES = 100


class GridFiles:
    """The files that a grid may read: those under the nearest directory called `grids`, else its own.

    Args:
        path: the grid file, as the user named it.

    Raises:
        GridError: there is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            home = path.resolve().parent
            missing = not path.exists()
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL in the name
            raise GridError(path, 0, "", f"cannot be read: {error}") from None
        if missing:
            raise GridError(path, 0, "", f"no such file.{nearest_beside(path, Path.is_file)}")
        self._root = next((parent for parent in (home, *home.parents) if parent.name == "grids"), home)
        self._count = 0

    def read(self) -> list[Node]:
        """Read the grid file and all it includes, each after its own includes: the grid file last.

        Raises:
            GridError: a file cannot be read, has keys that it must not, or includes itself.
        """
        return list(self._read(self.path, ()))

    def _read(self, path: Path, includers: tuple[Path, ...]) -> Iterator[Node]:
        self._count += 1
        root = Node(path, "", load_yaml(path))
        given = root.options(GRID_KEYS)
        for key in given.keys() - INCLUDED_KEYS if includers else ():
            raise given[key].error(f"may not stand in an included file; only {', '.join(INCLUDED_KEYS)} may")
        includers = (*includers, path.resolve())
        for node in _paths(given.get("include")):
            target = self.find(node)
            if target.resolve() in includers:
                raise node.error(f"{path} and {target} include each other")
            if self._count > MAX_INCLUDES:
                raise node.error(f"more than {MAX_INCLUDES} files are included")
            yield from self._read(target, includers)
        yield root

    def find(self, node: Node) -> Path:
        """Return the file that a path in a grid file means, relative to that grid file.

        Raises:
            GridError: the path is absolute, leads out of the directory, or to no file.
        """
        text = node.text()
        path = Path(os.path.normpath(Path(node.file).parent / text))
        try:
            if Path(text).is_absolute() or not path.resolve().is_relative_to(self._root):
                raise node.error(f"{text!r} must be a relative path that stays within {self._root.name}/")
            if path.is_file():
                return path
        except (OSError, RuntimeError, ValueError):
            pass  # a name no file can have
        raise node.error(f"no such file: {text!r}.{nearest_beside(path, Path.is_file)}")


def nearest_beside(path: Path, is_kind: Callable[[Path], bool]) -> str:
    """Return the question whether its like in the same directory is meant, or nothing."""
    try:
        hint = did_you_mean(path.name, [found.name for found in path.parent.iterdir() if is_kind(found)])
    except (OSError, ValueError):
        return ""
    return hint if hint.startswith(" Did") else ""


def _paths(include: Node | None) -> list[Node]:
    if include is None:
        return []
    return include.items() if isinstance(include.value, list) else [include]


_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
"""1e-3: text to YAML 1.1, but on a command line nothing but a number."""


def parse_scale(text: str) -> dict[str, Any]:
    """Return the values of a text such as `epochs=0.05,train=4000`. Raises GridError."""
    return parse_overrides(text.split(","), "--scale", "epochs=0.05")


def parse_overrides(
    settings: Sequence[str], given_by: str = "--set", example: str = "model.depth=56"
) -> dict[str, Any]:
    """Return the values of `KEY=VALUE` texts, VALUE as a grid file would have it.

    Raises:
        GridError: a text is not of that form, or sets a key again.
    """
    values: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key or not value.strip():
            raise GridError(given_by, 0, "", f"must be KEY=VALUE, such as {example}, got {text!r}")
        if key in values:
            raise GridError(given_by, 0, key, "is set twice")
        number = _EXPONENT.fullmatch(value.strip())
        values[key] = float(value) if number else parse_yaml(value, given_by).plain()
    return values
