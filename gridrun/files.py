"""Durable files: what is written here survives a kill or a power cut, whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def _usual_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


_MODE = _usual_mode()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a partial file to fill; on success it takes `path`'s place in one step, on disk.

    At every instant `path` is the old file or the new one.
    """
    with beside(path) as partial:
        yield partial
        settle(partial, path)


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield an empty partial file beside `path`; what is not settled is removed."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=".partial", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def settle(partial: Path, path: Path) -> None:
    """Have a partial file take `path`'s place in one step, on disk."""
    sync(partial)
    partial.chmod(_MODE)  # mkstemp's files are closed to others
    partial.replace(path)
    sync(path.parent)


def write(path: Path, text: str) -> None:
    """Write a text file durably, in one step."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Flush a file's content, or a directory's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
