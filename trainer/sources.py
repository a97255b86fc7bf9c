"""Digests of the source files behind a config's parts, to notice that one of them was changed. Torch-free."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.registry import Options
from trainer.schema import parts

ROOT = Path(__file__).parent.parent
SHARED = ROOT / "trainer", ROOT / "trainer" / "data"
"""Where the code lies that all configs share."""
DIGITS = 12


def sources(config: Any, digest_of: Callable[[Path], str | None] | None = None) -> dict[str, str]:
    """Return a digest of the module or package of each part of a config, by path: `trainer/models/wrn`.

    The classes that a part builds on count too, and the modules of other parts that it imports
    (`trainer/models/_layers`). Code that all configs share, such as the training loop, does not: it has a
    commit.

    Args:
        config: a `TrainConfig`.
        digest_of: `digest_of_source`, or a cache of it for many configs at once.
    """
    digest_of = digest_of or digest_of_source
    kinds: set[Any] = {type(part) for _, part in parts(config)}
    if average := config.running_average:  # `ema_decay` names no part
        kinds.add(type(average))
    places = {place for kind in kinds for place in _places(kind)}
    return {name: digest for name, path in sorted(places) if (digest := digest_of(path))}


@functools.cache
def _places(cls: Any) -> frozenset[tuple[str, Path]]:
    """Return names and paths of the modules of a class and its bases, but not of those that define a kind."""
    found = set()
    shared = {Options.__module__, cls.registry.package}
    for base in cls.__mro__:
        file = getattr(sys.modules.get(base.__module__), "__file__", None)
        if not issubclass(base, Options) or not file or base.__module__ in shared:
            continue
        path = Path(file)
        path = path.parent if path.name == "__init__.py" else path
        found.add((_name(path), path))
        with contextlib.suppress(OSError):  # no source, as in a zip file
            found |= {(_name(helper), helper) for helper in _helpers(path)}
    return frozenset(found)


def _name(path: Path) -> str:
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path(path.name)
    return name.with_suffix("").as_posix()


_IMPORT = re.compile(r"^\s*from\s+(trainer[\w.]*)\s+import\s+(\([^)]*\)|.*)", re.MULTILINE)


def _helpers(path: Path) -> set[Path]:
    """Return the modules outside a part that it imports, itself or by another, but those that all share."""
    todo, found = sorted(path.rglob("*.py")) if path.is_dir() else [path], set[Path]()
    while todo:
        for module, names in _IMPORT.findall(todo.pop().read_text(encoding="utf-8")):
            imported = [module, *(f"{module}.{name}" for name in re.findall(r"\b[a-z_]\w*", names))]
            for each in imported:
                helper = ROOT.joinpath(*each.split(".")).with_suffix(".py")
                of_a_kind = helper.parent not in SHARED and not helper.is_relative_to(path)
                if of_a_kind and helper.is_file() and helper not in found:
                    found.add(helper)
                    todo.append(helper)
    return found


def digest_of_source(path: Path) -> str | None:
    """Return the digest of a module, or of all modules below a package; None if it cannot be read."""
    try:
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        return _digest(tuple((file, file.stat().st_mtime_ns) for file in files))
    except OSError:
        return None


@functools.lru_cache(maxsize=1024)
def _digest(files: tuple[tuple[Path, int], ...]) -> str:
    sha256 = hashlib.sha256()
    for file, _ in files:
        content = file.read_bytes()
        sha256.update(f"{file.name} {len(content)}\n".encode())
        sha256.update(content)
    return sha256.hexdigest()[:DIGITS]
