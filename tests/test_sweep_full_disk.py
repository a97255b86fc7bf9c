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
from click.testing import CliRunner, Result

import cli
from gridrun.errors import StoreError
from gridrun.store import Store
from trainer import files

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


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRIDRUN_CACHE", str(cache_dir))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def run(*arguments: object, largest_file_bytes: int | None = None) -> Result:
    """Run `gridrun` in this process, in which a file may not become larger than that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if largest_file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file_bytes, before[1]))
    try:
        return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def launch(grid: Path, results: Path, *, full: bool) -> Result:
    options = ("launch", grid, "--results", results, "--executor", "serial")
    return run(*options, largest_file_bytes=LARGEST_FILE_BYTES if full else None)


def test_a_full_disk_is_reported_and_ended_trials_are_kept(tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(GRID.replace("[0.1, 0.2, 0.3]", "[0.4]"))
    assert launch(grid, tmp_path / "first", full=False).exit_code == 0  # the data set's cache
    grid.write_text(GRID)
    results = tmp_path / "results"
    stopped = launch(grid, results, full=True)
    assert stopped.exit_code == 2
    assert f"Error: {results}: cannot be written to (" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    kept = Store(results).statuses()
    assert set(kept.values()) == {"done"}
    again = launch(grid, results, full=False)
    assert again.exit_code == 0, again.stderr
    assert not set(re.findall(r"^started (\w+)", again.stderr, re.MULTILINE)) & kept.keys()
    assert len(Store(results).statuses()) == 3


def test_a_trial_without_room_for_its_weights_is_done(tmp_path: Path) -> None:
    train = ("train", "--keep-checkpoint", "last", *SMALL)
    assert run(*train, "seed=1").exit_code == 0  # the data set's cache
    # room for the record and Parquet files, not for 310 kB of weights
    trained = run(*train, "seed=2", largest_file_bytes=2**18)
    assert trained.exit_code == 0, trained.stderr
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

    monkeypatch.setattr(files, "open_to_read", denied)
    with pytest.raises(StoreError, match=r"trials\.parquet: cannot be read \(Permission denied\)"):
        store.rows()
