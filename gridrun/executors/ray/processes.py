"""The processes of a Ray that this process has started: whether they live, and how they end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

_POLL_SECONDS = 0.02
_END_SECONDS = 5.0
"""How long killed processes may take to be gone."""
_SIGTERM = 1 << (signal.SIGTERM - 1)  # in the masks of /proc/PID/status


def essential_processes(directory: Path) -> dict[int, str]:
    """Return the child processes that the Ray of `directory` cannot do without, by process id.

    Ray's public interface does not tell when they die: it ends this process some seconds later, without an
    exception. Without /proc the list is empty, and if one of them dies, Ray ends this process that way.
    """
    return {
        pid: name
        for pid in _children_in(directory)
        if (name := _read(pid, "comm")) in ("gcs_server", "raylet")
    }


def has_ended(pid: int) -> bool:
    """Return whether a child process has ended."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # and somebody has asked for its exit status already
        return True


@contextlib.contextmanager
def ended_at_once(directory: Path, essential: Collection[int]) -> Iterator[None]:
    """Have `ray.shutdown()`, called inside, take a moment, and leave no process behind.

    Ray sends SIGTERM to one of its processes after the other, and SIGKILL a second later. They do not hear
    SIGTERM (see `_inherited_by_ray`), so that took five seconds and more. Here all of them, and the workers
    and agents that they have started, are killed as soon as Ray has asked the first one to end: by then this
    process has left Ray, and nothing is lost with them. Without /proc and pidfds, Ray does it its own way.

    Args:
        directory: the one that Ray was started with.
        essential: those of `essential_processes`; none if Ray was joined, which then goes on.
    """
    if not essential or not hasattr(os, "pidfd_open"):
        yield
        return
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        for pid in _family(directory):
            with contextlib.suppress(OSError):  # it has ended just now
                found.append(os.pidfd_open(pid))  # so that a new process with its id is not hit
                stack.callback(os.close, found[-1])
        left = threading.Event()

        def kill() -> None:
            while not left.wait(_POLL_SECONDS) and not any(map(_is_told_to_end, essential)):
                pass
            for pidfd in found:
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)

        killer = threading.Thread(target=kill, name="end-ray", daemon=True)
        killer.start()
        try:
            yield
        finally:
            left.set()
            killer.join()
            _wait_for_end(found)


def _family(directory: Path) -> list[int]:
    """Return our children that work in Ray's `directory`, and all processes below them."""
    family = _children_in(directory)
    for pid in family:  # it grows meanwhile
        family += _children(pid)
    return family


def _children_in(directory: Path) -> list[int]:
    return [pid for pid in _children("self") if str(directory) in _read(pid, "cmdline")]


def _children(pid: int | str) -> list[int]:
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended just now
            found += map(int, children.read_text().split())
    return found


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace").strip()
    except OSError:  # it has ended just now
        return ""


def _is_told_to_end(pid: int) -> bool:
    """Return whether SIGTERM is waiting for a process that does not hear it, or whether it has ended."""
    fields = dict(line.split(":\t", 1) for line in _read(pid, "status").splitlines() if ":\t" in line)
    if not fields or fields["State"].startswith("Z"):
        return True
    return any(int(fields[mask], 16) & _SIGTERM for mask in ("SigPnd", "ShdPnd"))


def _wait_for_end(pidfds: list[int]) -> None:
    """Wait until processes are gone, but not for ever."""
    poll, end = select.poll(), time.monotonic() + _END_SECONDS
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    left = len(pidfds)
    while left and (seconds := end - time.monotonic()) > 0:
        for pidfd, _ in poll.poll(1000 * seconds):
            poll.unregister(pidfd)
            left -= 1
