"""Output that cannot be written causes no traceback and ends no launch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gridrun.store import Store

ROOT = Path(__file__).parent.parent
GRID = """
base:
  model: {name: resnet_preact, depth: 8, initial_channels: 4}
  epochs: 1
  train_size: 100
  batch_size: 50
axes: [{lr: [0.1, 0.2]}]
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]


@pytest.mark.parametrize("arguments", [["plan", ROOT / "grids/quickstart.yaml", "--json"], ["--help"]])
def test_a_full_disk_gives_one_line(arguments: list[object], tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(*arguments), stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path
        )
    assert (done.returncode, done.stderr) == (
        1,
        "Error: the output cannot be written: No space left on device\n",
    )


def test_a_closed_pipe_prints_no_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    plan = command("plan", ROOT / "grids/quickstart.yaml", "--json")
    done = subprocess.run(plan, stdout=write, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_closed_stdout_is_no_terminal(tmp_path: Path) -> None:
    table = command("table", ROOT / "grids/quickstart.yaml", "--results", tmp_path)
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *table]
    done = subprocess.run(closed, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_watching_into_a_pipe_prints_lines(tmp_path: Path) -> None:
    watch = command("status", ROOT / "grids/quickstart.yaml", "--results", tmp_path / "none", "--watch")
    with subprocess.Popen(watch, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout
        assert process.stdout.readline() == "48 missing; nothing is running\n"
        process.terminate()


LEAVING = """
import atexit, sys, cli
atexit.register(lambda: (print("leaving", flush=True), sys.stdin.read()))
cli.main(["status"])
"""


def test_ctrl_c_while_python_exits_changes_neither_exit_code_nor_output(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LEAVING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout
        assert "leaving\n" in iter(process.stdout.readline, "")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert (process.returncode, err) == (0, f"{tmp_path}/results: no results there yet\n")


@pytest.mark.parametrize("broken", ["closed", "full"])
def test_an_unwritable_log_does_not_end_a_launch(broken: str, tmp_path: Path, cache_dir: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID)
    if broken == "closed":
        read, log = os.pipe()
        os.close(read)
    else:
        log = os.open("/dev/full", os.O_WRONLY)
    launch = command("launch", "grid.yaml", "--executor", "serial", "--gpus", 0)
    done = subprocess.run(
        launch,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "GRIDRUN_CACHE": str(cache_dir)},
    )
    os.close(log)
    assert list(Store(tmp_path / "results").statuses().values()) == ["done", "done"]
    assert "### grid" in done.stdout, "the table"
