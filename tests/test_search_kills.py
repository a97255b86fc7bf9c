"""Searches whose process is killed at random moments, beside one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gridrun.grid import load_grid
from gridrun.search import Progress
from gridrun.store import Store
from trainer import checkpoint

ROOT = Path(__file__).parent.parent
SEARCH = """
base:
  dataset: digits
  model: {name: resnet_preact, depth: 8, initial_channels: 4}
  augmentation: {random_crop: {padding: 1}}
  train_size: 500
  val_ratio: 0.1
  batch_size: 32
  epochs: 3
search: {population: 4, interval: 1}
keep_checkpoint: last
"""
NOT_COMPARED = {
    *("train_seconds", "time_to_train_seconds", "images_per_second", "peak_memory_mib"),
    *("started_at", "ended_at", "resumes", "attempts"),
}


def start(file: Path, results: Path, cache_dir: Path) -> subprocess.Popen[str]:
    """Start a search in a process group of its own."""
    options = ["--results", results, "--executor", "serial", "--checkpoint-seconds", "0.05"]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), "search", str(file), *map(str, options)],
        env={**os.environ, "GRIDRUN_CACHE": str(cache_dir), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def contents(file: Path, results: Path) -> dict[str, Any]:
    """Return all that a search leaves, but for times and how often it was interrupted."""
    store = Store(results)
    progress = Progress.of(load_grid(file), store)
    rows = [
        {name: value for name, value in row.items() if name not in NOT_COMPARED}
        for row in store.rows().values()
    ]
    epochs = store.epochs(store.statuses())
    for row in (row for of_trial in epochs.values() for row in of_trial):
        del row["train_seconds"]
    weights = {
        path.name: {
            name: value.flatten().tolist()
            for name, value in (checkpoint.load(path) or {})["state_dict"].items()
        }
        for path in sorted((results / "checkpoints").glob("*.pt"))
    }
    assert progress.best
    return {
        "rows": sorted(rows, key=lambda row: row["trial_id"]),
        "epochs": epochs,
        "lineage": store.lineage(progress.search.search_id),
        "schedules": [segment.schedule for segment in progress.current],
        "best": progress.best,
        "weights": weights,
        "left": sorted(path.name for path in (results / ".work" / "checkpoints").iterdir()),
    }


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_a_search_killed_at_random_moments_ends_as_one_left_alone(
    kills: int, tmp_path: Path, cache_dir: Path
) -> None:
    file = tmp_path / "search.yaml"
    file.write_text(SEARCH)
    started = time.monotonic()
    whole = start(file, tmp_path / "whole", cache_dir)
    out, err = whole.communicate(timeout=300)
    assert whole.returncode == 0, err
    took = time.monotonic() - started
    wanted = contents(file, tmp_path / "whole")
    assert len(wanted["weights"]) == 4
    assert wanted["left"] == []

    rng = random.Random(os.environ.get("GRIDRUN_TEST_SEED", "1"))
    done: Counter[str] = Counter()
    killed = 0
    for number in range(1000):
        if killed >= kills:
            break
        results = tmp_path / f"killed{number}"
        while True:
            process = start(file, results, cache_dir)
            try:  # the first ones of a search die early: to import torch takes a while
                said, err = process.communicate(timeout=rng.uniform(0.3, 1) * took if killed < kills else 300)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                said, err = process.communicate()
                killed += 1
            done.update(
                f"{number} {line.split()[1]}" for line in err.splitlines() if line.startswith("done ")
            )
            if process.returncode != -signal.SIGKILL:
                break
        assert process.returncode == 0, err
        assert said == out
        assert contents(file, results) == wanted
    assert killed >= kills
    assert set(done.values()) == {1}, "a segment was trained to its end twice"
