"""Searches whose process is killed at random moments, beside one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forks import CONTEXT

import cli
from gridrun.grid import load_grid
from gridrun.search import read_progress
from gridrun.store import Store
from trainer import checkpoint

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
    *("train_seconds", "time_to_train_seconds", "images_per_second", "peak_memory_mib", "energy_kwh"),
    *("started_at", "ended_at", "resumes", "attempts", "commit", "dirty"),
}


def run(file: Path, results: Path, log: Path, cache_dir: Path, seconds: float | None = None) -> int:
    """Run a search in a process of its own, and kill it after so many seconds; return how it ended.

    Nothing heavy is left to import there, so that kills hit the search.
    """
    for suffix in (".out", ".err"):
        log.with_suffix(suffix).write_text("")
    process = CONTEXT.Process(target=_run, args=(file, results, log, cache_dir))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _run(file: Path, results: Path, log: Path, cache_dir: Path) -> None:
    for number, path in ((1, log.with_suffix(".out")), (2, log.with_suffix(".err"))):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ |= {"GRIDRUN_CACHE": str(cache_dir), "TERM": "dumb"}
    options = ["--results", results, "--executor", "serial", "--checkpoint-seconds", "0.05"]
    cli.main(["search", str(file), *map(str, options)])


def contents(file: Path, results: Path) -> dict[str, Any]:
    """Return all that a search leaves, but for times and how often it was interrupted."""
    store = Store(results)
    progress = read_progress(load_grid(file), store)
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


@dataclass(frozen=True)
class Alone:
    """A search that was left alone: its file, what it leaves and prints, and how long it took."""

    file: Path
    contents: dict[str, Any]
    out: str
    seconds: float


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Alone:
    home = tmp_path_factory.mktemp("alone")
    file, log = home / "search.yaml", home / "log"
    file.write_text(SEARCH)
    for name in ("first", "whole"):  # the first one starts the forkserver, and decodes the data
        started = time.monotonic()
        assert run(file, home / name, log, cache_dir) == 0, log.with_suffix(".err").read_text()
        took = time.monotonic() - started
    wanted = contents(file, home / "whole")
    assert contents(file, home / "first") == wanted
    assert len(wanted["weights"]) == 4
    assert wanted["left"] == []
    return Alone(file, wanted, log.with_suffix(".out").read_text(), took)


@pytest.mark.parametrize("kills", [1, pytest.param(30, marks=pytest.mark.slow)])
def test_a_search_killed_at_random_moments_ends_as_one_left_alone(
    kills: int, alone: Alone, tmp_path: Path, cache_dir: Path
) -> None:
    file, log = alone.file, tmp_path / "log"
    rng = random.Random(os.environ.get("GRIDRUN_TEST_SEED", "1"))
    done: Counter[str] = Counter()
    killed = searches = 0
    while killed < kills:
        searches += 1
        results, code = tmp_path / f"killed{searches}", -signal.SIGKILL
        while code == -signal.SIGKILL:
            seconds = rng.uniform(0, 0.8) * alone.seconds if killed < kills else None
            code = run(file, results, log, cache_dir, seconds)
            killed += code == -signal.SIGKILL
            lines = log.with_suffix(".err").read_text().splitlines()
            done.update(f"{searches} {line.split()[1]}" for line in lines if line.startswith("done "))
        assert code == 0, lines
        assert log.with_suffix(".out").read_text() == alone.out
        assert contents(file, results) == alone.contents
    assert set(done.values()) == {1}, "a segment was trained to its end twice"


def test_two_processes_share_a_search(alone: Alone, tmp_path: Path, cache_dir: Path) -> None:
    file, results = alone.file, tmp_path / "both"
    logs = [tmp_path / "one", tmp_path / "other"]
    both = [CONTEXT.Process(target=_run, args=(file, results, log, cache_dir)) for log in logs]
    for process in both:
        process.start()
    for process in both:
        process.join()
    lines = [line for log in logs for line in log.with_suffix(".err").read_text().splitlines()]
    assert [process.exitcode for process in both] == [0, 0], lines
    assert contents(file, results) == alone.contents
