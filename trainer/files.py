"""Write files so that a kill or a power cut leaves the old content or the new, never a part.

All files that gridrun or the trainer leaves behind are written here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def _usual_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


_MODE = _usual_mode()
_ATTEMPTS = 5
"""How often to open a file that others replace."""


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary file to fill; it replaces `path` in one step if the block ends without an error.

    `durable` says whether the new file must survive a power cut from then on. That takes milliseconds.
    """
    with temporary_beside(path) as partial:
        yield partial
        commit(partial, path, durable=durable)


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yield an empty temporary file beside `path`, `.NAME-*.partial`; it is removed if not committed."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=".partial", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def commit(partial: Path, path: Path, *, durable: bool = True, mode: int = _MODE) -> None:
    """Replace `path` by a temporary file in one step; `durable` as for `replacing`."""
    partial.chmod(mode)  # mkstemp lets nobody else read its files
    if durable:
        sync(partial)
    partial.replace(path)
    if durable:
        sync(path.parent)


def commit_directory(partial: Path, directory: Path) -> None:
    """Replace a directory by `partial`, durably. For an instant there is none."""
    for path in partial.iterdir():
        sync(path)
    sync(partial)
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)
    sync(directory.parent)


def make_directory(path: Path) -> None:
    """Make a directory if there is none. Raises OSError, also if it is a link, as `write_in_place`."""
    path.mkdir(parents=True, exist_ok=True)
    check_no_link(path)


def check_no_link(path: Path) -> None:
    """Raise OSError if a path is a link."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, "Leads elsewhere", str(path))


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a text file in one step; `durable` as for `replacing`."""
    with replacing(path, durable=durable) as partial:
        write_in_place(partial, text)


def rewrite(path: Path, text: str) -> None:
    """Write a user's own text file anew: where a link points to, with the mode and the owner that it had.

    In one step if that can be done without changing its owner, else in place. Raises OSError: it may not be
    written, or is no regular file.
    """
    target = path.resolve()
    before = target.stat()
    if not stat.S_ISREG(before.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file")
    if not before.st_mode & 0o222 or not os.access(target, os.W_OK):  # root may write all
        raise PermissionError(errno.EACCES, "Permission denied")
    try:
        with temporary_beside(target) as partial:
            write_in_place(partial, text)
            os.chown(partial, before.st_uid, before.st_gid)
            commit(partial, target, mode=stat.S_IMODE(before.st_mode))
    except PermissionError:
        write_in_place(target, text)


def write_in_place(path: Path, text: str) -> None:
    """Write a text file that need not be whole after a kill. Raises OSError, also if it is a link or a FIFO.

    Whoever may write to a results directory could plant a link, and have others write where it points.
    """
    with open(path, "w", encoding="utf-8", opener=_no_link) as file:
        file.write(text)


def touch(path: Path) -> None:
    """Make an empty file if there is none. Raises OSError as `write_in_place`."""
    with open(path, "a", encoding="utf-8", opener=_no_link):
        pass


def _no_link(path: str, flags: int) -> int:
    # a FIFO that nobody reads would block
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def refresh_directory(directory: Path) -> None:
    """Make a network file system ask its server which files a directory has.

    An NFS client remembers that for up to a minute: it does not see a new file, and it opens the old version
    of a replaced one. Opening the directory makes it ask.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(directory, os.O_RDONLY))


def is_there(path: Path) -> bool:
    """Return whether a file exists, even if another machine has just made or removed it."""
    refresh_directory(path.parent)
    return path.exists()


def open_to_read(path: Path) -> BinaryIO:
    """Open a regular file. Raises OSError, at once for a FIFO or a device: reading these might never end."""
    return open(path, "rb", opener=_regular)


def _regular(path: str, flags: int) -> int:
    handle = os.open(path, flags | os.O_NONBLOCK)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.EINVAL, "Not a regular file", path)


def read_text(path: Path) -> str:
    """Return the content of a text file; read it again if NFS says that it was replaced meanwhile.

    Raises:
        OSError: it cannot be read, or is no regular file; `is_gone` tells whether it does not exist.
        ValueError: it is not UTF-8.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with open_to_read(path) as file:
                return file.read().decode()
        except OSError as error:
            if error.errno != errno.ESTALE or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def is_gone(error: OSError) -> bool:
    """Return whether an error means that the file does not exist, or on NFS: no longer exists."""
    return error.errno in (errno.ENOENT, errno.ESTALE)


def sync(path: Path) -> None:
    """Flush a file's content, or a directory's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
