"""Copies of the checkpoints of running trials, in a bucket or directory that every machine reaches."""

from __future__ import annotations

import contextlib
import functools
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from gridrun.errors import LaunchError
from trainer import files

_PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0)
"""Between the attempts to read a copy when a trial starts."""


class UnreadableError(Exception):
    """The copies cannot be read, so that nobody knows whether a trial has one."""


class CheckpointCopies:
    """The copies at one URI. Each is uploaded under another name first, then moved into place in one step.

    Args:
        uri: a directory, or what `pyarrow.fs.FileSystem.from_uri` takes, such as `s3://bucket/path`.

    Raises:
        LaunchError: no file system takes such a URI, or it holds a password.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        if not uri.strip():
            raise LaunchError("--checkpoints: names no place; leave it out to copy none")
        try:
            if "://" not in uri:
                self._system, self._root = LocalFileSystem(), str(Path(uri).absolute())
            elif urlsplit(uri).password:
                raise LaunchError("--checkpoints: credentials belong in the environment, not in the URI")
            else:
                self._system, self._root = FileSystem.from_uri(uri)
        except (ArrowException, ValueError, OSError, NotImplementedError) as error:
            raise LaunchError(f"--checkpoints {uri}: {_first_line(error)}") from None

    def check(self) -> None:
        """Write a file and remove it again, to fail now rather than after hours of training.

        Raises:
            LaunchError: the place cannot be written to.
        """
        probe = f"{self._root}/.{secrets.token_hex(8)}"
        try:
            self._system.create_dir(self._root)
            with self._system.open_output_stream(probe) as file:
                file.write(b"gridrun")
            self._system.delete_file(probe)
        except (ArrowException, OSError) as error:
            reason = _first_line(error)
            raise LaunchError(f"--checkpoints {self.uri}: cannot be written to ({reason})") from None

    def fetch(self, trial_id: str, path: Path) -> None:
        """Fetch a trial's checkpoint to `path`, if there is a copy and `path` is not as far already.

        A copy may be behind: it could not be written for a while. Raises OSError if it cannot be read.
        """
        from trainer.checkpoint import steps_in

        source = self._file(trial_id)
        if self._system.get_file_info(source).type != FileType.File:
            if isinstance(self._system, LocalFileSystem) and not Path(self._root).is_dir():
                raise FileNotFoundError(f"{self._root} is not there")  # perhaps it is not mounted
            return
        with files.temporary_beside(path) as partial:
            with self._system.open_input_stream(source) as remote:
                partial.write_bytes(remote.read())
            here = steps_in(path)
            if here < 0 or here < steps_in(partial):
                files.commit(partial, path)

    def keep(self, trial_id: str, path: Path) -> None:
        """Copy a trial's checkpoint here. Raises OSError; then the last copy is still there."""
        target = self._file(trial_id)
        beside = f"{target}.{secrets.token_hex(8)}.partial"
        with path.open("rb") as local, self._system.open_output_stream(beside) as remote:
            shutil.copyfileobj(local, remote)
        self._system.move(beside, target)

    def drop(self, trial_id: str) -> None:
        """Remove a trial's checkpoint, and what a killed upload left beside it."""
        with contextlib.suppress(OSError):  # what is left takes some space, no more
            self.remove(trial_id)

    def remove(self, trial_id: str) -> None:
        """Remove the same of a trial that is trained anew: it must not go on from there. Raises OSError."""
        for found in self._system.get_file_info(FileSelector(self._root)):
            if found.base_name.startswith(f"{trial_id}.pt"):
                self._system.delete_file(found.path)

    def _file(self, trial_id: str) -> str:
        return f"{self._root}/{trial_id}.pt"


def fetch(uri: str, trial_id: str, path: Path, pause: Callable[[float], None]) -> None:
    """Fetch a trial's checkpoint as `CheckpointCopies.fetch` does, in several attempts.

    Between two of them `pause` is called with the seconds to wait.

    Raises:
        UnreadableError: no attempt succeeded. The trial must not start then: without the copy it might
            repeat hours of training.
    """
    for seconds in (*_PAUSES_SECONDS, None):
        try:
            copies_at(uri).fetch(trial_id, path)
            return
        except (OSError, LaunchError) as error:
            if seconds is None:
                raise UnreadableError(f"--checkpoints {uri}: {_first_line(error)}") from error
            pause(seconds)


@functools.cache
def copies_at(uri: str) -> CheckpointCopies:
    """Return the copies at a URI; one object in each process, since each has its own connections."""
    return CheckpointCopies(uri)


def _first_line(error: Any) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
