"""Streamed images under Ray: workers of workers, interrupted and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
NUM_TRAIN, NUM_TEST = 24, 6
GRID = """
title: Streamed
base:
  dataset: {{name: image_folder, digest: {digest}, num_classes: 3, image_size: 8, num_train: 24, num_test: 6,
            mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25], stream: true, resize: 12}}
  model: {{name: resnet_preact, depth: 8, initial_channels: 16}}
  augmentation: {{random_resized_crop: true, horizontal_flip: true}}
  batch_size: 6
  epochs: 4
seeds: 2
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Return a data directory with a folder of three classes of noise."""
    for split, number in (("train", NUM_TRAIN), ("val", NUM_TEST)):
        for i in range(number):
            pixels = np.random.default_rng(i).integers(0, 256, (14 + i, 38 - i, 3), np.uint8)
            path = tmp_path / "data" / "image_folder" / "own" / split / "abc"[i % 3] / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return tmp_path / "data"


def launch(grid: Path, results: Path, data_dir: Path, cache_dir: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            ROOT / "cli.py",
            "launch",
            grid,
            "--results",
            results,
            "--cpus-per-trial",
            "2",
            *more,
        ],
        cwd=ROOT,
        env={**os.environ, "GRIDRUN_DATA": str(data_dir), "GRIDRUN_CACHE": str(cache_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def numbers(results: Path) -> list[dict[str, Any]]:
    """Return what of each epoch is the same however the trial came about."""
    rows: list[dict[str, Any]] = pq.read_table(results / "epochs.parquet").to_pylist()
    rows = [{name: value for name, value in row.items() if name != "train_seconds"} for row in rows]
    return sorted(rows, key=lambda row: (row["trial_id"], row["epoch"]))


def of_launch(cache_dir: Path) -> list[str]:
    """Return the command lines of all processes that were given this cache: a launch's, and all theirs."""
    mark, found = f"GRIDRUN_CACHE={cache_dir}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int(process.name) != os.getpid() and mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # gone, or another user's
            pass
    return [line for line in found if line]  # a zombie has none


@pytest.mark.slow
def test_streamed_trials_are_interrupted_resumed_and_equal_serial_ones(
    data_dir: Path, tmp_path: Path
) -> None:
    from trainer.datasets.image_folder import digest_of

    grid, cache_dir = tmp_path / "streamed.yaml", tmp_path / "cache"
    digest = digest_of(data_dir / "image_folder" / "own")
    grid.write_text(GRID.format(digest=digest))
    often = ("--cpus", "4", "--checkpoint-seconds", "0.1")
    under_ray = (grid, tmp_path / "ray", data_dir, cache_dir, *often)

    first = launch(*under_ray)
    while len(list((tmp_path / "ray").glob(".work/checkpoints/*.pt"))) < 2:  # both train at once
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGINT)
    _, said = first.communicate()
    assert first.returncode == 130, said
    assert not list((tmp_path / "ray").glob(".work/leases/*"))

    again = launch(*under_ray)
    _, said = again.communicate()
    assert again.returncode == 0, said
    alone = launch(grid, tmp_path / "serial", data_dir, tmp_path / "other", "--executor", "serial")
    _, said = alone.communicate()
    assert alone.returncode == 0, said
    assert numbers(tmp_path / "ray") == numbers(tmp_path / "serial")
    resumes = pq.read_table(tmp_path / "ray" / "trials.parquet")["resumes"].to_pylist()
    assert set(resumes) == {1}
    while of_launch(cache_dir):  # Ray's last ones take a moment; one that stays makes this test hang
        time.sleep(0.5)
