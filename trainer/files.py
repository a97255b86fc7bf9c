"""Durable files: what is written here survives a kill or a power cut, whole."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def _usual_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


_MODE = _usual_mode()
_ATTEMPTS = 5
"""How often to open a file that others replace."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a partial file to fill; on success it takes `path`'s place in one step, on disk.

    At every instant `path` is the old file or the new one.
    """
    with temporary_beside(path) as partial:
        yield partial
        commit(partial, path)


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yield an empty partial file beside `path`; what is not settled is removed."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=".partial", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def commit(partial: Path, path: Path) -> None:
    """Have a partial file take `path`'s place in one step, on disk."""
    partial.chmod(_MODE)  # mkstemp's files are closed to others
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def write(path: Path, text: str) -> None:
    """Write a text file durably, in one step."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def refresh_directory(directory: Path) -> None:
    """Have a network file system ask its server which files a directory has.

    NFS answers that from memory for up to a minute: a new file is not there, and a replaced one is still
    the old one, even when opened, while anybody reads that. Whoever opens the directory makes it ask.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(directory, os.O_RDONLY))


def is_there(path: Path) -> bool:
    """Return whether there is such a file, whoever made or removed it on whichever machine."""
    refresh_directory(path.parent)
    return path.exists()


def read_text(path: Path) -> str:
    """Return what a text file says; where NFS had it replaced while it was open, what the new one says.

    Raises:
        OSError: it cannot be read; `is_gone` if it was not there, or removed meanwhile.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    return path.read_text(encoding="utf-8")


def is_gone(error: OSError) -> bool:
    """Return whether a file was not there, or on NFS: was removed while it was open."""
    return error.errno in (errno.ENOENT, errno.ESTALE)


def sync(path: Path) -> None:
    """Flush a file's content, or a directory's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
