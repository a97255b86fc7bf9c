"""A full disk: an error that says so, and no result lost."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gridrun.errors import StoreError
from gridrun.store import Store

ROOT = Path(__file__).parent.parent
GRID = """
base:
  model: {name: resnet_preact, depth: 8, initial_channels: 4}
  train_size: 100
  batch_size: 50
  epochs: 1
axes: [{lr: [0.1, 0.2, 0.3]}]
"""
SMALL = ("model=resnet_preact", "model.depth=8", "epochs=1", "train_size=100", "batch_size=50")
LARGEST_FILE_BYTES = 8192
"""Room for a trial's record, not for a Parquet file."""


def launch(grid: Path, results: Path, cache_dir: Path, *, full: bool) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if full:
            resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE_BYTES, LARGEST_FILE_BYTES))

    return subprocess.run(
        [sys.executable, ROOT / "cli.py", "launch", grid, "--results", results, "--executor", "serial"],
        env={**os.environ, "GRIDRUN_CACHE": str(cache_dir), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_full_disk_is_reported_and_ended_trials_are_kept(tmp_path: Path, cache_dir: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(GRID.replace("[0.1, 0.2, 0.3]", "[0.4]"))
    assert launch(grid, tmp_path / "first", cache_dir, full=False).returncode == 0  # the data set's cache
    grid.write_text(GRID)
    results = tmp_path / "results"
    stopped = launch(grid, results, cache_dir, full=True)
    assert stopped.returncode == 2
    assert f"Error: {results}: cannot be written to (" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    kept = Store(results).statuses()
    assert set(kept.values()) == {"done"}
    again = launch(grid, results, cache_dir, full=False)
    assert again.returncode == 0, again.stderr
    assert not set(re.findall(r"^started (\w+)", again.stderr, re.MULTILINE)) & kept.keys()
    assert len(Store(results).statuses()) == 3


def test_a_trial_without_room_for_its_weights_is_done(tmp_path: Path, cache_dir: Path) -> None:
    def limit() -> None:  # room for the record and Parquet files, not for 310 kB of weights
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, 2**18))

    def train(*settings: str, full: bool) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, ROOT / "cli.py", "train", "--keep-checkpoint", "last", *SMALL, *settings],
            env={**os.environ, "GRIDRUN_CACHE": str(cache_dir)},
            cwd=tmp_path,
            preexec_fn=limit if full else None,
            capture_output=True,
            text=True,
            check=False,
        )

    assert train("seed=1", full=False).returncode == 0  # the data set's cache
    trained = train("seed=2", full=True)
    assert trained.returncode == 0, trained.stderr
    assert "note: the weights could not be kept: File too large\n" in trained.stderr
    trial_id, *_ = trained.stdout.split()
    store = Store(tmp_path / "results")
    row = store.rows()[trial_id]
    assert (row["status"], row["checkpoint"]) == ("done", None)
    assert not list(store.weights_path(trial_id).parent.glob(f"{trial_id}*"))


def test_an_interrupted_launch_that_cannot_write_stops_at_once(tmp_path: Path, cache_dir: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID.replace("epochs: 1", "epochs: 100_000"))
    results = tmp_path / "results"
    with subprocess.Popen(
        [sys.executable, ROOT / "cli.py", "launch", "grid.yaml", "--executor", "serial"],
        env={**os.environ, "GRIDRUN_CACHE": str(cache_dir)},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        assert any(line.startswith("started") for line in process.stderr)
        while (results / ".work" / "launches").exists():
            shutil.rmtree(results / ".work" / "launches", ignore_errors=True)  # it is being written to
        process.send_signal(signal.SIGINT)
        assert process.stderr.read().endswith("Interrupted.\n")
    assert process.returncode == 130


def test_an_unreadable_store_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.create()

    def denied(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(StoreError, match=r"trials\.parquet: cannot be read \(Permission denied\)"):
        store.rows()
