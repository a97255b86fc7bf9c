"""The files of a launch in its store while it runs: what it is doing, and whether it is to stop."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gridrun.store import Store
from gridrun.sweep.progress import Tracker
from trainer import files

_HEARTBEAT_SECONDS = 2.0


@contextlib.contextmanager
def heartbeat(store: Store, drain_file: Path, tracker: Tracker) -> Iterator[None]:
    """Write the launch's state to the store every two seconds, for `gridrun status` on any machine."""
    launch_id = secrets.token_hex(8)
    is_over = threading.Event()

    def beat() -> None:
        while True:
            with contextlib.suppress(OSError):  # a full disk must not end the launch
                store.launches.write(launch_id, tracker.snapshot())
            with contextlib.suppress(OSError):  # it rarely exists; if it looks old, other launches delete it
                os.utime(drain_file)
            if is_over.wait(_HEARTBEAT_SECONDS):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        store.launches.end(launch_id)
        drain_file.unlink(missing_ok=True)


@contextlib.contextmanager
def stop_file_of(store: Store) -> Iterator[Path]:
    """Yield a path that the first SIGINT, SIGTERM or SIGHUP creates; the second one stops at once.

    It does what SIGINT did before, by default a KeyboardInterrupt.
    """
    path = store.launches.stop_path(secrets.token_hex(8))
    old: dict[int, Any] = {}

    def stop(signum: int, frame: object) -> None:
        with contextlib.suppress(OSError):  # a full disk, or the directory is gone: no trial would notice
            if not path.exists():
                files.touch(path)
                return
        if callable(before := old.get(signal.SIGINT)):
            before(signum, frame)
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()
    numbers = [signal.SIGINT, signal.SIGTERM] if in_main else []
    if in_main and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
        numbers.append(signal.SIGHUP)
    for each in numbers:
        old[each] = signal.getsignal(each)
        signal.signal(each, stop)
    try:
        yield path
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        path.unlink(missing_ok=True)
