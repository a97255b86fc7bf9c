"""Find or download the original archives of a data set, for a torchvision class to read."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from trainer.datasets import DataError

DOWNLOAD_TIMEOUT_S = 30.0

Files = Mapping[str, str | None]
"""From paths in torchvision's layout to their md5, None if it is not known."""


@contextlib.contextmanager
def staged(name: str, archives: Files, unpacked: Files, data_dir: Path, work_dir: Path) -> Iterator[Path]:
    """Yield a temporary root in which a torchvision class may unpack, and download what is missing.

    It holds copies, so torchvision cannot change `data_dir`. At the end, new downloads move to `work_dir`
    and the root is removed. Only one process may do this at a time.

    Args:
        name: the data set's name, for errors.
        archives: the files that torchvision downloads.
        unpacked: the files in them; they are used if an archive is missing.
        data_dir: the user's archives, or unpacked files.
        work_dir: earlier downloads.

    Raises:
        DataError: torchvision failed; the message names the files at fault and where they belong.
    """
    root = work_dir / f".{name}"
    shutil.rmtree(root, ignore_errors=True)  # left by a process that was killed
    root.mkdir()
    folders = (data_dir, work_dir)
    try:
        found = [path for path, md5 in archives.items() if _copy(path, md5, folders, root)]
        if len(found) < len(archives):
            for path, md5 in unpacked.items():
                _copy(path, md5, folders, root)
        try:
            with _socket_timeout(DOWNLOAD_TIMEOUT_S):
                yield root
        except Exception as error:  # damaged files and failed downloads raise almost anything
            raise DataError(_explain(name, error, archives, unpacked, folders)) from error
        finally:
            _keep({path: md5 for path, md5 in archives.items() if path not in found}, root, work_dir)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _intact(path: Path, md5: str | None) -> bool:
    from torchvision.datasets.utils import check_integrity

    return bool(check_integrity(path, md5))


def _copy(path: str, md5: str | None, folders: tuple[Path, ...], root: Path) -> bool:
    """Copy the first intact file of that name. Return whether there is one."""
    for folder in folders:
        if _intact(folder / path, md5):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / path, root / path)
            return True
    return False


def _keep(downloads: Files, root: Path, work_dir: Path) -> None:
    for path, md5 in downloads.items():
        if _intact(root / path, md5):
            (work_dir / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).replace(work_dir / path)


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Set a timeout for downloads. torchvision sets none, and could hang for many minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _explain(name: str, error: Exception, archives: Files, unpacked: Files, folders: tuple[Path, ...]) -> str:
    data_dir = folders[0]
    cause = " ".join(str(error).split()) or type(error).__name__
    bad = [
        f"{path} ({'damaged' if (data_dir / path).is_file() else 'missing'})"
        for path, md5 in archives.items()
        if not any(_intact(folder / path, md5) for folder in folders)
    ]
    parts = [f"data set {name!r} is not available: {cause.rstrip('.')}."]
    if bad:
        parts.append(
            f"Put the original archives below {data_dir}, or choose another data directory: {', '.join(bad)}."
        )
    if bad and any((data_dir / path).is_file() for path in unpacked):
        parts.append("The unpacked files there are incomplete or damaged.")
    return " ".join(parts)
