"""End what is left of a Ray whose launch has died: its agents would look for it for minutes.

A script of its own, which imports nothing of gridrun. Its stdin is a pipe that only the launch holds, so it
closes when the launch ends, in whatever way. A launch that closes its Ray kills this process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_END_SECONDS = 5.0


def start(directory: Path) -> subprocess.Popen[bytes]:
    """Start a process that ends the Ray of `directory` as soon as this process has ended."""
    command = [sys.executable, "-I", "-S", __file__, str(directory)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # it outlives what a terminal sends to all processes of the launch
    )


def main(directory: str) -> None:
    sys.stdin.buffer.read()
    end, found = time.monotonic() + _END_SECONDS, True
    while found and time.monotonic() < end:  # those that end may just have started others
        found = False
        for pid in users(directory):
            found = True
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(directory, ignore_errors=True)


def users(directory: str) -> list[int]:
    """Return the processes that have a file of `directory` open; all of Ray's have their logs there."""
    return [int(each.name) for each in Path("/proc").glob("[0-9]*") if _uses(each, f"{directory}/")]


def _uses(process: Path, beginning: str) -> bool:
    with contextlib.suppress(OSError):  # it is another user's, or has just ended
        for file in (process / "fd").iterdir():
            with contextlib.suppress(OSError):  # it has just been closed
                if str(file.readlink()).startswith(beginning):
                    return True
    return False


if __name__ == "__main__":
    main(sys.argv[1])
