"""This process as the shell sees it: its streams, its directory, and how it ends when it is interrupted."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gridrun.errors import GridrunError

EXIT_INTERRUPTED = 130
_SHOW_CURSOR = b"\x1b[?25h\n"


def open_streams() -> None:
    """Send standard streams that are closed to /dev/null, and let stdout print `?` for what it cannot encode.

    Otherwise the next file that is opened takes their place: Ray does not start with a closed stderr. And a
    launch in a locale without UTF-8 would end at the first `λ` of its tables.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_RDWR)
                if null != number:
                    os.dup2(null, number)
                    os.close(null)
                setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # stderr writes escapes by itself
        sys.stdout.reconfigure(errors="replace")


def check_directory() -> None:
    """Raise GridrunError if the working directory has been deleted."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise GridrunError("the working directory has been deleted; change to one that exists") from None


def ignore_signals() -> None:
    """Ignore what could end this process while it ends by itself."""
    if _is_own():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def leave(code: int) -> None:
    """End this process without taking apart what it has loaded; Ray and torch can crash half-way through.

    Does nothing where others use this process too, as in tests.
    """
    if _is_own():
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def end_at_once_with_ray() -> Callable[[Any], None]:
    """Have this process end without taking apart what it has loaded, if that is Ray: 0.7 s of CPU time.

    Call this before anything heavy is imported: what is registered with `atexit` later runs before the end.
    Call what it returns with the exit code; else Python ends as always.
    """
    codes: list[Any] = []

    def end() -> None:
        code = 0 if codes and codes[-1] is None else next(reversed(codes), None)
        if "ray" not in sys.modules or not isinstance(code, int):
            return
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        except (OSError, ValueError):
            return  # Python tries once more, and says what is wrong
        os._exit(code)

    if _is_own():
        atexit.register(end)
    return codes.append


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have SIGINT and SIGTERM end this process at once inside the block; a launch handles the first itself.

    An exception could come up anywhere in torch and Ray instead, which then crash or print C++ stacks. All is
    left as after a kill: results are safe, and `executors/ray/watcher.py` ends Ray.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    if not _is_own():
        yield
        return
    before = {number: signal.signal(number, _end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(signum: int, frame: object) -> None:
    ignore_signals()
    with contextlib.suppress(OSError):
        if os.isatty(2):
            os.write(2, _SHOW_CURSOR)
        os.write(2, b"Interrupted.\n")
    os._exit(EXIT_INTERRUPTED)


def _is_own() -> bool:
    """Return whether `gridrun` is all that this process runs; tests and notebooks replace stderr."""
    is_replaced = sys.__stderr__ is not None and sys.stderr is not sys.__stderr__
    return not is_replaced and threading.current_thread() is threading.main_thread()
