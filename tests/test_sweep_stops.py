"""How a launch ends that is told to, and what it ends with it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from gridrun.commands import _process
from gridrun.executors.ray import watcher

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

RAY = """
import subprocess, sys, time
from pathlib import Path
from gridrun.executors.ray import watcher
directory = Path(sys.argv[1])
(directory / "logs").mkdir()
watching = watcher.start(directory)
with (directory / "logs" / "agent.log").open("w") as log:
    agent = subprocess.Popen(["sleep", "60"], stdout=log, start_new_session=True)
print(agent.pid, flush=True)
sys.stdin.read()
agent.kill(); agent.wait()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_what_a_killed_launch_leaves_of_its_ray_ends_with_it(tmp_path: Path) -> None:
    ours, another = tmp_path / "ray", tmp_path / "ray2"
    ours.mkdir()
    another.mkdir()
    with (another / "log").open("w") as log, subprocess.Popen(["sleep", "60"], stdout=log) as bystander:
        launch = subprocess.Popen(
            [sys.executable, "-c", RAY, str(ours)],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert launch.stdout
        agent = int(launch.stdout.readline())
        assert watcher.users(str(ours)) == [agent]
        launch.kill()
        launch.communicate()
        end = time.monotonic() + 30
        while (watcher.users(str(ours)) or ours.exists()) and time.monotonic() < end:
            time.sleep(0.02)
        assert watcher.users(str(ours)) == []
        assert not ours.exists()
        assert bystander.poll() is None
        bystander.kill()


SIGNALLED = """
import os, signal, sys, threading, time
from gridrun.commands import _process
with _process.ended_by_signals():
    try:
        os.kill(os.getpid(), signal.{number})
        time.sleep(60)
    finally:
        print("taken apart")
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_process_without_an_exception(number: str) -> None:
    code = SIGNALLED.format(number=number)
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")


def test_a_stream_that_cannot_encode_a_table_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="latin-1"))
    _process.open_streams()
    click.echo("λ: 4.85 ± 0.10")
    assert written.getvalue() == b"?: 4.85 \xb1 0.10\n"


STREAMS = """
import os
from gridrun.commands import _process
_process.open_streams()
print("lost", file=__import__("sys").stderr)
for number in range(3):
    assert os.readlink(f"/proc/self/fd/{number}") == "/dev/null", number
os.write(3, b"fine")
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_closed_streams_are_no_place_for_other_files() -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    command = f'exec 3>&{write}; exec "$@" 0<&- >&- 2>&-'
    subprocess.run(
        ["bash", "-c", command, "bash", sys.executable, "-c", STREAMS],
        env=ENVIRONMENT,
        pass_fds=[write],
        check=True,
    )
    os.close(write)
    with os.fdopen(read) as said:
        assert said.read() == "fine"


def test_a_deleted_working_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    command = f"cd gone; rmdir ../gone; exec {sys.executable} {ROOT / 'cli.py'} plan grid.yaml"
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "Error: the working directory has been deleted; change to one that exists\n"


@pytest.mark.slow
@pytest.mark.parametrize("way", ["twice", "kill", "stuck"])
def test_a_launch_on_ray_ends_cleanly(way: str, cache_dir: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "stops.py", "--repetitions", "3", "--way", way],
        env={**ENVIRONMENT, "GRIDRUN_CACHE": str(cache_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
