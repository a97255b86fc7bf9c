"""Leases: who works on what, where no kernel lock reaches all that may ask.

A lease is a file that its holder touches every few seconds. Whoever wants the same name writes a
file of its own first and looks at the others' then: it holds the name if each of them is dead, and
else takes its own away again. Of two that write at once at least one sees the other, so never do
both hold. A file is dead if its process is known to be (same kernel), or if it has not changed
while somebody watched it for DURATION_SECONDS; no clocks of two machines are compared.

A holder that was paused for so long finds its file gone: it asks `Claim.held` before it leaves
anything that lasts.

filelock's SoftFileLease takes an expired lease by exchanging two names, which NFS refuses; there it
would never be taken over.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from trainer import files

DURATION_SECONDS = 60.0
"""A lease that nobody has touched for so long is taken over."""
_TOUCH_SECONDS = DURATION_SECONDS / 4
_LOOK_SECONDS = 5.0
"""Between two looks at a file no more than this counts: the one that looks may have slept itself."""
_ATTEMPTS = 5
"""How often to try again where two that came at once have both stepped back."""


class Claim:
    """What one process holds, until it lets go or is taken for dead."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def held(self) -> bool:
        """Return whether the lease is still ours, and renew it. Others may have taken it over."""
        try:
            os.utime(self._path)
        except OSError as error:  # a file server that is away for a moment is so for the others too
            return not files.is_gone(error)
        return True

    def start(self) -> None:
        """Begin to renew the lease by itself."""
        _heart.add(self)

    def release(self) -> None:
        """Let go."""
        _heart.discard(self)
        self._path.unlink(missing_ok=True)


class _Heart:
    """Renews all that this process holds, in one thread: to start one for each takes as long as a claim."""

    def __init__(self) -> None:
        self._claims: set[Claim] = set()
        self._pid: int | None = None

    def add(self, claim: Claim) -> None:
        if self._pid != os.getpid():  # a forked process has neither its parent's threads nor what that holds
            self._pid, self._claims = os.getpid(), set()
            threading.Thread(target=self._beat, name="leases", daemon=True).start()
        self._claims.add(claim)

    def discard(self, claim: Claim) -> None:
        self._claims.discard(claim)

    def _beat(self) -> None:
        while True:
            time.sleep(_TOUCH_SECONDS)
            for claim in tuple(self._claims):
                if not claim.held():
                    self._claims.discard(claim)


_heart = _Heart()


class Leases:
    """The leases in one directory, as one process sees them."""

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        owner: dict[str, Any] | None = None,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._owner = owner
        self._watched: dict[Path, _Watch] = {}

    def claim(self, name: str) -> Claim | None:
        """Return the claim to a name, None if another holds it. What dead holders left is removed.

        Raises:
            OSError: the directory cannot be written.
        """
        for attempt in range(_ATTEMPTS):
            if not self._all_dead(self._of(name)):
                return None
            claim = self._write(name)
            rivals = [path for path in self._of(name) if path != claim._path]
            if self._all_dead(rivals):
                for path in rivals:
                    path.unlink(missing_ok=True)
                    self._watched.pop(path, None)
                claim.start()
                return claim
            claim.release()
            if attempt + 1 < _ATTEMPTS:
                time.sleep(random.uniform(0, 0.05))
        return None

    def exists(self, name: str) -> bool:
        """Return whether anybody, dead or alive, has left a lease of that name."""
        return next(self._of(name), None) is not None

    def names(self) -> set[str]:
        """Return the names of which anybody, dead or alive, has left a lease."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._directory) as entries:
            # `.nfs...` is what NFS keeps of a removed file that is still open.
            return {entry.name.rpartition(".")[0] for entry in entries if not entry.name.startswith(".")}
        return set()

    def _of(self, name: str) -> Iterator[Path]:
        with contextlib.suppress(FileNotFoundError), os.scandir(self._directory) as entries:
            yield from [Path(entry) for entry in entries if entry.name.rpartition(".")[0] == name]

    def _write(self, name: str) -> Claim:
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"{name}.{secrets.token_hex(8)}"
        try:
            path.write_text(json.dumps(self._owner or _this_process()), encoding="utf-8")
        except OSError:  # a full disk has room for the name alone, which others would wait for
            path.unlink(missing_ok=True)
            raise
        return Claim(path)

    def _all_dead(self, paths: Iterable[Path]) -> bool:
        dead = [self._is_dead(path) for path in paths]  # each of them, for each is to be watched
        return all(dead)

    def _is_dead(self, path: Path) -> bool:
        try:
            # By opening it: a network file system asks its server only then.
            with path.open(encoding="utf-8") as file:
                changed_ns, text = os.fstat(file.fileno()).st_mtime_ns, file.read()
        except OSError as error:
            if not files.is_gone(error):
                raise
            self._watched.pop(path, None)
            return True
        watch = self._watched.setdefault(path, _Watch())
        return watch.unchanged_seconds(changed_ns, self._clock()) >= DURATION_SECONDS or _is_gone(text)


class _Watch:
    """For how long a file has been seen not to change."""

    def __init__(self) -> None:
        self._changed_ns = -1
        self._looked_at = 0.0
        self._seconds = 0.0

    def unchanged_seconds(self, changed_ns: int, now: float) -> float:
        if changed_ns == self._changed_ns:
            self._seconds += min(now - self._looked_at, _LOOK_SECONDS)
        else:
            self._changed_ns, self._seconds = changed_ns, 0.0
        self._looked_at = now
        return self._seconds


# --- processes -----------------------------------------------------------------------------------


def _this_process() -> dict[str, Any]:
    """Return who holds a lease: what tells others on the same kernel whether it lives."""
    pid = os.getpid()
    return {"host": platform.node(), "kernel": kernel(), "pid": pid, "started": _started(pid)}


def kernel() -> str:
    """Name the running kernel, and the space of process ids in it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return platform.node()


def _started(pid: int) -> int | None:
    """Return when a process started, in ticks since boot; None if there is none, or none can be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    state, *fields = stat.rpartition(b")")[2].split()
    return None if state in (b"Z", b"X") else int(fields[18])


def _is_gone(text: str) -> bool:
    """Return whether the process that wrote so is known to have ended."""
    try:
        owner = json.loads(text)
        where, pid, started = owner["kernel"], owner["pid"], owner["started"]
    except (ValueError, TypeError, KeyError):  # being written just now, or cut short
        return False
    if where != kernel() or not isinstance(pid, int):
        return False
    return bool(_started(pid) != started) and not _is_hidden(pid)


def _is_hidden(pid: int) -> bool:
    """Return whether a process lives that may not be looked at: another user's, under `hidepid`."""
    if Path(f"/proc/{pid}/stat").is_file() and os.access(f"/proc/{pid}/stat", os.R_OK):
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return False


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
