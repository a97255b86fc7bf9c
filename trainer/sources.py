"""Digests of the source files behind a config's parts, to notice that one of them was changed. Torch-free."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.registry import Options

ROOT = Path(__file__).parent.parent
DIGITS = 12


def sources(config: Any) -> dict[str, str]:
    """Return a digest of the module or package of each part of a config, by path: `trainer/models/wrn`.

    So do those of the classes that a part builds on. Not the code that all configs share, such as the
    training loop: that has a commit.
    """
    kinds: set[Any] = {type(options) for options in _parts(config)}
    places = {place for kind in kinds for place in _places(kind)}
    return {name: digest for name, path in sorted(places) if (digest := _digest_of(path))}


def _parts(value: Any) -> Iterator[Options]:
    """Yield the options in a config, and those in them."""
    if isinstance(value, Options):
        yield value
    if isinstance(value, tuple):
        for item in value:
            yield from _parts(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _parts(getattr(value, field.name))


@functools.cache
def _places(cls: Any) -> frozenset[tuple[str, Path]]:
    """Return names and paths of the modules of a class and its bases, but not of those that define a kind."""
    found = set()
    kind = getattr(cls, "registry", None)
    for base in cls.__mro__:
        file = getattr(sys.modules.get(base.__module__), "__file__", None)
        if (
            not issubclass(base, Options)
            or not file
            or base.__module__ in (Options.__module__, kind and kind.package)
        ):
            continue
        path = Path(file)
        path = path.parent if path.name == "__init__.py" else path
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path(path.name)
        found.add((name.with_suffix("").as_posix(), path))
    return frozenset(found)


def _digest_of(path: Path) -> str | None:
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
