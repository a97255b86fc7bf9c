"""How the processes of a Ray end: at once, and all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gridrun.executors.ray.processes import ended_at_once

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfds and /proc")
TREE = (
    "import subprocess; child = subprocess.Popen(['sleep', '60']);print(child.pid, flush=True); child.wait()"
)


def tree(directory: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a process that does not hear SIGTERM, as those of our Ray, and one below it."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        command = [sys.executable, "-S", "-c", TREE, str(directory)]
        parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert parent.stdout
    return parent, int(parent.stdout.readline())


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_all_end_once_one_is_told_to_and_others_of_this_process_live(tmp_path: Path) -> None:
    (ours, below), (other, others_child) = tree(tmp_path / "ray"), tree(tmp_path / "another")
    try:
        started = time.monotonic()
        with ended_at_once(tmp_path / "ray", {ours.pid: "raylet"}):
            time.sleep(0.1)
            assert is_alive(ours.pid)
            assert is_alive(below)
            ours.terminate()
            assert ours.wait(timeout=10) == -signal.SIGKILL
        assert not is_alive(below)
        assert time.monotonic() - started < 10
        assert is_alive(other.pid)
        assert is_alive(others_child)
    finally:
        for pid in (ours.pid, below, other.pid, others_child):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        for process in (ours, other):
            process.communicate()


def test_a_ray_that_was_joined_goes_on(tmp_path: Path) -> None:
    process, below = tree(tmp_path)
    with ended_at_once(tmp_path, {}):
        pass
    assert is_alive(process.pid)
    assert is_alive(below)
    for pid in (process.pid, below):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
