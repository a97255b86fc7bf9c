"""Where a grid comes from: the grid file, the files it includes, its CSV tables, and `--set KEY=VALUE`."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from gridrun.errors import GridError
from gridrun.grid.node import Located, Node
from gridrun.grid.policy_schedules import put_in_place
from gridrun.grid.yaml import load_yaml, nearest_beside, parse_yaml

MAX_INCLUDES = 100


class GridFiles:
    """The files that a grid may read: those under the nearest parent directory called `grids`.

    Without such a parent, those under the grid file's own directory.
    """

    def __init__(self, path: Path) -> None:
        """Find that directory. Raises GridError: there is no file `path`."""
        self.path = path
        try:
            home = path.resolve().parent
            missing = not path.exists()
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or a NUL in the name
            raise GridError(path, 0, "", f"cannot be read: {error}") from None
        if missing:
            hint = nearest_beside(path, Path.is_file) or _nearest_grid(path)
            raise GridError(path, 0, "", f"no such file.{hint}")
        self._root = next((parent for parent in (home, *home.parents) if parent.name == "grids"), home)
        self._count = 0
        self._found: dict[Path, None] = {path: None}

    @property
    def names(self) -> dict[str, Path]:
        """The files that were read so far, the grid file first, by their path within the directory."""
        home = self.path.parent
        within = home.resolve()
        within = within.relative_to(self._root) if within.is_relative_to(self._root) else Path()
        names = (os.path.normpath(within / os.path.relpath(path, home)) for path in self._found)
        return {Path(name).as_posix(): path for name, path in zip(names, self._found, strict=True)}

    def read(self, keys: Collection[str], includable: Collection[str]) -> list[Node]:
        """Read the grid file and the files it includes. Each file comes after those that it includes.

        Raises:
            GridError: a file cannot be read, has a key that is not in `keys`, or for an included file in
                `includable`, or includes itself.
        """
        return list(self._read(self.path, (), keys, includable))

    def _read(
        self, path: Path, includers: tuple[Path, ...], keys: Collection[str], includable: Collection[str]
    ) -> Iterator[Node]:
        self._count += 1
        root = Node(path, "", load_yaml(path))
        root = Node(path, "", put_in_place(root, self.find))
        given = root.options(keys)
        for key in given.keys() - includable if includers else ():
            raise given[key].error(f"is not allowed in an included file; only {', '.join(includable)} are")
        includers = (*includers, path.resolve())
        for node in given["include"].one_or_more() if "include" in given else ():
            target = self.find(node)
            if target.resolve() in includers:
                raise node.error(f"{path} and {target} include each other")
            if self._count > MAX_INCLUDES:
                raise node.error(f"more than {MAX_INCLUDES} files are included")
            yield from self._read(target, includers, keys, includable)
        yield root

    def find(self, node: Node) -> Path:
        """Return the file that a path in a grid file names, relative to that grid file.

        Raises:
            GridError: the path is absolute, leads out of the directory, or there is no such file.
        """
        text = node.text()
        path = Path(os.path.normpath(Path(node.file).parent / text))
        try:
            if Path(text).is_absolute() or not path.resolve().is_relative_to(self._root):
                raise node.error(f"{text!r} must be a relative path that stays within {self._root.name}/")
            if path.is_file():
                self._found[path] = None
                return path
        except (OSError, RuntimeError, ValueError):
            pass  # no file can have such a name
        raise node.error(f"no such file: {text!r}.{nearest_beside(path, Path.is_file)}")


def _nearest_grid(path: Path) -> str:
    """Return ` Did you mean 'x'?` for the closest name among `grids/*.yaml`, or an empty text."""
    known = {found.stem: found for found in Path("grids").glob("[!.]*.yaml")}
    near = difflib.get_close_matches(path.stem, known, n=1)
    return f" Did you mean {known[near[0]].as_posix()!r}?" if near else ""


_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
"""`1e-3` is text in YAML 1.1; on a command line it can only mean a number."""


def parse_scale(text: str) -> dict[str, Any]:
    """Read a text such as `epochs=0.05,train=4000`. Raises GridError."""
    return parse_overrides(text.split(","), "--scale", "epochs=0.05")


def parse_overrides(
    texts: Sequence[str], given_by: str = "--set", example: str = "model.depth=56"
) -> dict[str, Any]:
    """Read the `KEY=VALUE` texts of a command-line option; VALUE is YAML, as in a grid file.

    Raises:
        GridError: a text is not `KEY=VALUE`, such as `example`, or a key is set twice.
    """
    values: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key or not value.strip():
            raise GridError(given_by, 0, "", f"must be KEY=VALUE, such as {example}, got {text!r}")
        if key in values:
            raise GridError(given_by, 0, key, "is set twice")
        number = _EXPONENT.fullmatch(value.strip())
        located = Located(float(value)) if number else parse_yaml(value, given_by)
        node = Node(given_by, key, located)
        values[key] = put_in_place(node, lambda named: Path(named.text())).plain()
    return values
