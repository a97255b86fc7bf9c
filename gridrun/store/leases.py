"""Leases: locks that work between machines, and end with the process that holds them.

A lease is a file that its holder touches every few seconds. To take the lease called `x`, a process
writes a file of its own, `x.TOKEN`, and then looks at all other files `x.*`. It holds the lease if each
of those is dead; else it removes its own file again. Of two processes that write at once, at least one
sees the other's file, so two can never hold the lease together.

When is a file dead? If its process runs on this machine, the kernel says whether it still lives. If not,
the file is dead once it has not changed while somebody watched it for DURATION_SECONDS. Clocks of two
machines are never compared.

A holder that was paused for longer may find that another machine has taken over: it must ask
`Claim.held` before it writes anything that lasts.

Kernel locks (`flock`) would add nothing: they do not reach other machines on many file systems. filelock's
SoftFileLease takes over an expired lease by exchanging two names, which NFS refuses.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from trainer import files

DURATION_SECONDS = 60.0
"""A lease of another machine that stays untouched for so long is taken over."""
_TOUCH_SECONDS = DURATION_SECONDS / 4
_LOOK_SECONDS = 5.0
"""Most silence credited between two checks, because the watching process may itself have been paused."""
_ATTEMPTS = 5
"""How often to try again after two processes that came at once have both stepped back."""
_WAIT_SECONDS = 0.1


class Claim:
    """A lease that this process holds, until it releases it or another machine takes it over."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def held(self) -> bool:
        """Return whether the lease is still ours, and renew it."""
        try:
            os.utime(self._path)
        except OSError as error:  # if the server is down, nobody else can take the lease either
            return not files.is_gone(error)
        return True

    def release(self) -> None:
        """Give the lease back."""
        _heart.claims.discard(self)
        self._path.unlink(missing_ok=True)


class _Heart:
    """One thread that renews all leases of this process: one thread each would make a claim twice as slow."""

    def __init__(self) -> None:
        self.claims: set[Claim] = set()
        self._pid: int | None = None

    def add(self, claim: Claim) -> None:
        if self._pid != os.getpid():  # a forked child has neither its parent's threads nor its leases
            self._pid, self.claims = os.getpid(), set()
            threading.Thread(target=self._beat, name="leases", daemon=True).start()
        self.claims.add(claim)

    def _beat(self) -> None:
        while True:
            time.sleep(_TOUCH_SECONDS)
            for claim in tuple(self.claims):
                if not claim.held():
                    self.claims.discard(claim)


_heart = _Heart()


class _Watch(NamedTuple):
    """What is known of a lease's file since the last look at it."""

    changed_ns: int
    seen_at: float
    silent_seconds: float
    """How long it has been seen not to change."""


class Leases:
    """The leases in one directory, as one process sees them.

    `clock` returns seconds. `owner` is what a lease says of its holder; None for this process.
    """

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

    @contextlib.contextmanager
    def hold(self, name: str, *, wait: bool = False) -> Iterator[Claim | None]:
        """Hold a lease within a `with`; None if another process holds it, unless `wait`. Raises OSError."""
        while (claim := self.claim(name)) is None and wait:
            time.sleep(_WAIT_SECONDS)
        try:
            yield claim
        finally:
            if claim:
                claim.release()

    @contextlib.contextmanager
    def hold_all(self, names: Collection[str]) -> Iterator[set[str]]:
        """Hold those leases within a `with` that are free; yield their names. Raises OSError."""
        claims = self.claim_all(names)
        with contextlib.ExitStack() as stack:
            for claim in claims.values():
                stack.callback(claim.release)
            yield set(claims)

    def claim(self, name: str) -> Claim | None:
        """Take a lease; None if another process holds it. Raises OSError."""
        return self.claim_all([name]).get(name)

    def claim_all(self, names: Collection[str]) -> dict[str, Claim]:
        """Take those leases that no other process holds; return the claims by name. Raises OSError.

        However many they are, the directory is listed only before and after their files are written.
        """
        claims: dict[str, Claim] = {}
        left = set(names)
        try:
            for _ in range(_ATTEMPTS):
                left -= self._held(left)
                for name in left:
                    claims[name] = self._write(name)
                    _heart.add(claims[name])
                left = self._held(left, but_by={claim._path for claim in claims.values()})
                for name in left:
                    claims.pop(name).release()
                if not left:
                    break
                time.sleep(random.uniform(0, 0.05))
        except BaseException:
            for claim in claims.values():
                claim.release()
            raise
        return claims

    def is_held(self, name: str) -> bool:
        """Return whether a live process holds a lease; if none does, remove the files of dead ones.

        Raises OSError.
        """
        return bool(self._held({name}))

    def _held(self, names: Collection[str], but_by: Collection[Path] = ()) -> set[str]:
        """Return which of some leases are held, as `is_held`; the files `but_by` do not count."""
        others: dict[str, list[Path]] = {}
        for path in self._files() if names else ():
            if path.stem in names and path not in but_by:
                others.setdefault(path.stem, []).append(path)
        held = set()
        for name, paths in others.items():
            dead = [self._is_dead(path) for path in paths]  # all of them: each look counts as watching
            if not all(dead):
                held.add(name)
                continue
            for path in paths:
                path.unlink(missing_ok=True)
                self._watched.pop(path, None)
        return held

    def names(self) -> set[str]:
        """Return the names of all leases that have a file, be its holder alive or dead."""
        return {path.stem for path in self._files()}

    def _files(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            # NFS keeps a removed file that is still open as `.nfs...`.
            return [path for path in self._directory.iterdir() if not path.name.startswith(".")]
        return []

    def _write(self, name: str) -> Claim:
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"{name}.{secrets.token_hex(8)}"
        try:
            files.write_in_place(path, json.dumps(self._owner or _this_process()))
        except OSError:  # a full disk leaves an empty file, which others would have to watch
            path.unlink(missing_ok=True)
            raise
        return Claim(path)

    def _is_dead(self, path: Path) -> bool:
        try:
            # A network file system asks its server only when a file is opened.
            with files.open_to_read(path) as file:
                changed_ns, text = os.fstat(file.fileno()).st_mtime_ns, file.read().decode(errors="replace")
        except OSError as error:
            if not files.is_gone(error):
                raise
            self._watched.pop(path, None)
            return True
        now, silent_seconds = self._clock(), 0.0
        if (old := self._watched.get(path)) and old.changed_ns == changed_ns:
            silent_seconds = old.silent_seconds + min(now - old.seen_at, _LOOK_SECONDS)
        self._watched[path] = _Watch(changed_ns, now, silent_seconds)
        lives = _lives(text)
        return silent_seconds >= DURATION_SECONDS if lives is None else not lives


# --- processes -----------------------------------------------------------------------------------


def _this_process() -> dict[str, Any]:
    """Return what tells other processes on this machine whether this one still lives."""
    pid = os.getpid()
    return {"host": platform.node(), "kernel": kernel(), "pid": pid, "started": _started(pid)}


def kernel() -> str:
    """Return a name of the running kernel and of its space of process ids (containers have their own)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return platform.node()


_ENDED = -1


def _started(pid: int) -> int | None:
    """Return when a process started, in ticks since boot; _ENDED if it has ended, None if that is hidden."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    state, *fields = stat.rpartition(b")")[2].split()
    num_threads, started = int(fields[16]), int(fields[18])
    # A killed process is a zombie as soon as its first thread has ended, but the others may still write.
    return _ENDED if state in (b"Z", b"X") and num_threads <= 1 else started


def _lives(text: str) -> bool | None:
    """Return whether the process that wrote a lease lives; None if that cannot be told from here."""
    try:
        owner = json.loads(text)
        where, pid, started = owner["kernel"], owner["pid"], owner["started"]
    except (ValueError, TypeError, KeyError):  # just being written, or cut short
        return None
    if where != kernel() or not isinstance(pid, int):
        return None
    try:
        os.kill(pid, 0)  # sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    now = _started(pid)  # None for other users' processes where /proc is mounted with `hidepid`
    return None if now is None or started is None else bool(now == started)
