"""Launches from the command line, in processes of their own: killed, interrupted, two at once."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
from click.testing import CliRunner, Result

import cli
from gridrun import resources
from gridrun import sweep as launches
from gridrun.store import Store
from gridrun.sweep.options import LaunchOptions
from gridrun.trial import Trial
from trainer import Runtime

pytestmark = pytest.mark.long
ROOT = Path(__file__).parent.parent
GRID = """
base:
  model: {name: resnet_preact, depth: 8, initial_channels: 8}
  augmentation: {random_crop: {padding: 1}}
  train_size: 500
axes:
  - batch_size: [64, 128]
  - schedule: [cosine, multistep]
  - epochs: [4, 12]
derive: {schedule.milestones: [0.5 * epochs, 0.75 * epochs]}
seeds: 2
"""
NOT_COMPARED = {
    *(
        "train_seconds",
        "time_to_train_seconds",
        "images_per_second",
        "peak_memory_mib",
        "energy_kwh",
        "started_at",
        "ended_at",
    ),
    *("resumes", "commit", "dirty"),
}


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    return path


def start(*arguments: object, cache_dir: Path, log: Path | None = None) -> subprocess.Popen[str]:
    """Start `gridrun` in a process group of its own; its output goes to pipes, or stderr to `log`."""
    with contextlib.ExitStack() as stack:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)],
            env={**os.environ, "GRIDRUN_CACHE": str(cache_dir)},
            stdout=subprocess.PIPE,
            stderr=stack.enter_context(log.open("w")) if log else subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def run(*arguments: object, cache_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run `gridrun` to its end."""
    process = start(*arguments, cache_dir=cache_dir)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def in_process(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs `gridrun` in this process, where torch is imported already."""
    monkeypatch.setenv("GRIDRUN_CACHE", str(cache_dir))

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])

    return run


def rows(results: Path) -> list[dict[str, Any]]:
    """Return the rows without what may differ between runs."""
    table = pd.read_parquet(results / "trials.parquet").sort_values("trial_id")
    table = table.drop(columns=list(NOT_COMPARED)).map(str)
    return table.to_dict("records")  # type: ignore[return-value]


def epochs(results: Path) -> list[dict[str, Any]]:
    table = pd.read_parquet(results / "epochs.parquet").sort_values(["trial_id", "epoch"])
    return table.drop(columns="train_seconds").map(str).to_dict("records")  # type: ignore[return-value]


@pytest.mark.parametrize("most_kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_launch_killed_at_random_moments_ends_with_the_same_results(
    most_kills: int, grid: Path, tmp_path: Path, cache_dir: Path, in_process: Callable[..., Result]
) -> None:
    whole = in_process("launch", grid, "--results", tmp_path / "whole", "--executor", "serial")
    assert whole.exit_code == 0, whole.stderr

    rng = random.Random(os.environ.get("GRIDRUN_TEST_SEED", "1"))
    killed = tmp_path / "killed"
    lines: list[str] = []
    kills = 0
    while True:
        log = tmp_path / f"log{kills}"
        process = start(
            *("launch", grid, "--results", killed, "--checkpoint-seconds", "0.2"),
            cache_dir=cache_dir,
            log=log,
        )
        die_at: float | None = None
        while process.poll() is None:
            if kills < most_kills and die_at is None and "started" in log.read_text():
                die_at = time.monotonic() + rng.uniform(2, 7)  # workers need a few seconds to import torch
            if die_at and time.monotonic() > die_at:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
                break
            for name in ("trials", "epochs"):
                if (killed / f"{name}.parquet").exists():
                    pd.read_parquet(killed / f"{name}.parquet")
            time.sleep(0.02)
        process.communicate()
        lines += log.read_text().splitlines()
        if process.returncode != -signal.SIGKILL:
            break
    assert process.returncode == 0, lines
    assert kills >= 1
    assert rows(killed) == rows(tmp_path / "whole")
    assert epochs(killed) == epochs(tmp_path / "whole")
    ends = Counter(line for line in lines if line.startswith("done "))
    assert set(ends.values()) == {1}, "a trial ran to its end twice"
    work = [path for path in (killed / ".work").rglob("*") if path.is_file() and path.name != "README"]
    assert not [path for path in work if path.parent.name not in ("launches", "asked")]


def test_a_finished_grid_starts_nothing_and_more_seeds_add_only_new_trials(
    grid: Path, tmp_path: Path, cache_dir: Path, in_process: Callable[..., Result]
) -> None:
    sweep = ("launch", grid, "--results", tmp_path / "results", "--executor", "serial")
    assert in_process(*sweep, "--set", "epochs=2").exit_code == 2  # rows become equal
    grid.write_text(GRID.replace("[4, 12]", "[4, 5]").replace("[64, 128]", "[128]"))
    assert in_process(*sweep).exit_code == 0
    before = (tmp_path / "results" / "trials.parquet").read_bytes()
    started = time.monotonic()
    again = run("launch", grid, "--results", tmp_path / "results", cache_dir=cache_dir)
    assert time.monotonic() - started < 3 * 2  # 3 s, and as much again for a busy machine
    assert again.returncode == 0
    assert "Nothing to do: 8 done." in again.stderr
    assert (tmp_path / "results" / "trials.parquet").read_bytes() == before
    more = in_process(*sweep, "--seeds", "3")
    trained = re.findall(r"^started .* seed (\d+)$", more.stderr, re.MULTILINE)
    assert trained == ["2"] * 4


@pytest.mark.parametrize(
    ("slow", "precision", "warns"),
    [("mixed_bf16", "mixed_bf16", True), ("mixed_bf16", "fp32", False), ("mixed_fp16", "mixed_bf16", False)],
)
def test_a_launch_warns_of_a_precision_that_the_cpu_is_slow_in(
    slow: str,
    precision: str,
    warns: bool,
    tmp_path: Path,
    in_process: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resources, "slow_precisions", lambda: frozenset({slow}))
    (tmp_path / "grid.yaml").write_text(
        "base: {dataset: digits, model: {name: resnet_preact, depth: 8}, epochs: 1, train_size: 128}"
    )
    where = ("--results", tmp_path / "results", "--executor", "serial", "--gpus", "0")
    launched = in_process("launch", tmp_path / "grid.yaml", *where, "--set", f"precision={precision}")
    assert launched.exit_code == 0, launched.stderr
    warning = "1 trial trains in mixed_bf16: this CPU is many times faster in fp32\n"
    assert (warning in launched.stderr) == warns


@pytest.mark.parametrize(
    ("capacity", "on_cluster", "warns"),
    [
        ({"gpus": 0}, False, True),
        ({"gpus": 0}, True, False),
        ({"gpus": 1}, False, False),
        ({"gpus": 1, "gpus_per_trial": 0}, False, True),
    ],
)
def test_only_trials_on_this_machine_s_cpus_are_warned_of(
    capacity: dict[str, int], on_cluster: bool, warns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "slow_precisions", lambda: frozenset({"mixed_bf16"}))
    options = LaunchOptions(
        runtime=Runtime(), capacity=resources.Capacity(cpus=2, **capacity), on_cluster=on_cluster
    )
    trial = Trial(tiny.config(precision="mixed_bf16"), 0)
    assert (launches._slow_precision([trial], options) is not None) == warns


@pytest.fixture
def hears_hangups() -> Iterator[None]:
    """Undo nohup, under which these tests may run: gridrun would ignore SIGHUP as it should."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hears_hangups")
@pytest.mark.parametrize(
    ("executor", "number", "tell"),
    [
        ("serial", signal.SIGINT, os.killpg),  # as a terminal does
        ("serial", signal.SIGTERM, os.kill),
        ("ray", signal.SIGINT, os.killpg),
        # as `timeout` and batch systems do
        pytest.param("ray", signal.SIGTERM, os.killpg, marks=pytest.mark.slow),
        pytest.param("ray", signal.SIGTERM, os.kill, marks=pytest.mark.slow),
        pytest.param("ray", signal.SIGHUP, os.killpg, marks=pytest.mark.slow),  # as a closed terminal does
    ],
)
def test_an_interruption_saves_running_trials_and_exits_130(
    executor: str,
    number: signal.Signals,
    tell: Callable[[int, signal.Signals], None],
    grid: Path,
    tmp_path: Path,
    cache_dir: Path,
) -> None:
    grid.write_text(GRID.replace("[4, 12]", "[400, 500]"))
    results = tmp_path / "results"
    process = start("launch", grid, "--results", results, "--executor", executor, cache_dir=cache_dir)
    deadline = time.monotonic() + 90
    while not list(results.glob(".work/checkpoints/*.epoch")):  # until the first is saved
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    tell(process.pid, number)
    stopped = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert time.monotonic() - stopped < 20
    assert "Interrupted. Run the same command again to resume." in err
    assert list(results.glob(".work/checkpoints/*.pt"))
    assert Store(results).statuses() == {}
    assert not list(results.glob(".work/leases/*"))


def test_two_launches_at_once_share_the_work(grid: Path, tmp_path: Path, cache_dir: Path) -> None:
    grid.write_text(GRID.replace("[4, 12]", "[4, 5]").replace("  train_size: 500\n", ""))  # it takes a while
    sweep = ("launch", grid, "--results", tmp_path / "results", "--executor", "serial")
    both = [start(*sweep, cache_dir=cache_dir) for _ in range(2)]
    logs = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], logs
    table = pd.read_parquet(tmp_path / "results" / "trials.parquet")
    assert len(table) == 16
    assert table["trial_id"].is_unique
    trained = [set(re.findall(r"^done (\w+)", log, re.MULTILINE)) for log in logs]
    assert trained[0] | trained[1] == set(table["trial_id"])
    assert all(trained), "each did some"


def test_ray_leaves_nothing_behind(grid: Path, tmp_path: Path, cache_dir: Path) -> None:
    grid.write_text(GRID.replace("[4, 12]", "[1]").replace("0.75", "0.8"))
    decoy = tmp_path / "trainer.py"  # a name that a working directory may contain
    decoy.write_text("raise SystemExit('the wrong trainer')")
    with tempfile.TemporaryDirectory(prefix="gr") as temp:
        done = subprocess.run(
            [
                sys.executable,
                ROOT / "cli.py",
                "launch",
                grid,
                "--results",
                tmp_path / "results",
                "--cpus",
                "1",
            ],
            env={**os.environ, "GRIDRUN_CACHE": str(cache_dir), "TMPDIR": temp, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert [path for path in Path(temp).rglob("*") if path.is_file()] == []
    decoy.unlink()
    assert {path.name for path in tmp_path.iterdir()} <= {"grid.yaml", "results", ".cache"}
    assert {path.name for path in (tmp_path / "results").iterdir()} == {
        "trials.parquet",
        "epochs.parquet",
        ".work",
    }
    assert done.stdout.startswith("### grid"), "nothing but the table on stdout"


def test_a_session_directory_of_another_user_is_refused(
    grid: Path, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "0123abcd").mkdir(parents=True)
    (theirs / "0123abcd.lock").touch()
    temp = tmp_path / "temp"
    temp.mkdir()
    (temp / f"gridrun-{os.getuid()}").symlink_to(theirs)
    monkeypatch.setenv("TMPDIR", str(temp))
    done = run("launch", grid, "--results", tmp_path / "results", cache_dir=cache_dir)
    assert done.returncode == 2
    assert "must be a directory that you own and others cannot enter" in done.stderr
    assert (theirs / "0123abcd").exists()
