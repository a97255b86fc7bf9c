"""Locks by name: between processes of one machine the kernel decides, between machines a lease."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from gridrun.leases import Claim, Leases

_WAIT_SECONDS = 0.5
_ATTEMPTS = 5
"""How often to try a lock again that others took and let go meanwhile."""


class Locks:
    """The locks of one store, as one process sees them.

    Args:
        directory: where the kernel's lock files are.
        leases: where the leases are (`gridrun.leases`).
    """

    def __init__(self, directory: Path, leases: Path) -> None:
        self.directory = directory
        self._leases = Leases(leases)

    def names(self) -> set[str]:
        """Return the names of which any holder, dead or alive, has left something."""
        return {path.stem for path in self.directory.glob("*.lock")} | self._leases.names()

    def has_traces(self, name: str) -> bool:
        """Return whether any holder, dead or alive, has left something of that name."""
        return self._file(name).exists() or self.exists(name)

    def exists(self, name: str) -> bool:
        """Return whether there is a lease of that name, be its holder alive or dead, here or elsewhere."""
        return self._leases.exists(name)

    @contextlib.contextmanager
    def hold(self, name: str, *, wait: bool = False) -> Iterator[Claim | None]:
        """Hold the lock called `name`, whatever becomes of the process; None if another holds it.

        Raises:
            OSError: a directory cannot be written.
        """
        with _kernel_lock(self._file(name), wait) as free:
            claim = self._leases.claim(name) if free else None
            while wait and claim is None:
                time.sleep(_WAIT_SECONDS)
                claim = self._leases.claim(name)
            try:
                yield claim
            finally:
                if claim:
                    claim.release()

    def _file(self, name: str) -> Path:
        return self.directory / f"{name}.lock"


@contextlib.contextmanager
def _kernel_lock(path: Path, wait: bool) -> Iterator[bool]:
    """Hold a lock that ends with its process; False if another on this machine holds it."""
    lock = FileLock(path, fallback_to_soft=False)
    try:
        taken = _taken(lock, wait)
    except OSError as error:
        of_another = error.errno == errno.EACCES and path.exists()  # a user whose umask keeps it to them
        if not of_another and error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        yield True  # or a file system without such locks: leases alone, then
        return
    if not taken:
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)  # while held: who waits for it tries again
        lock.release()


def _taken(lock: FileLock, wait: bool) -> bool:
    """Take a kernel's lock; return False if another holds it."""
    attempts = 0
    while True:
        try:
            lock.acquire(timeout=-1 if wait else 0)
            return True
        except Timeout:
            return False
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            attempts += 1  # on NFS: who held it elsewhere removed the file after it was opened here
            if not wait and attempts == _ATTEMPTS:
                return False
