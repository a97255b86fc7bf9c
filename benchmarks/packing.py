"""How many trials of one config to run side by side: trials an hour with 1, 2, 4, 8 and 16 on a GPU.

    python benchmarks/packing.py [--at-once 1 2 4 8 16] [--images 50000] [--mps]
    python benchmarks/packing.py --cpu [--at-once 1 2] [--threads 1 2]

Each number is a launch through Ray of twice as many trials: ResNet-preact-20, random grey images, batch 128.
An hour's trials are what their own training rates add up to after the first epoch, so that imports and what
warms up do not count. `--mps` starts CUDA's Multi-Process Service first and ends it afterwards. `--cpu`
measures the machine's CPUs, with so many threads for each trial.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
BATCH_SIZE = 128
EPOCHS = 200
"""Of the trials that are counted."""
MEASURED_EPOCHS = 4
"""Of the trials that are measured; the first one warms up."""
GRID = """
title: Trials that share a GPU
base:
  dataset: {{name: npz, sha256: {sha256}, num_classes: 10, channels: 1, image_size: 28,
             num_train: {num_train}, num_test: 1000, mean: [0.5], std: [0.3]}}
  model: {{name: resnet_preact, depth: 20}}
  augmentation: {{random_crop: true, horizontal_flip: true}}
  precision: {precision}
  batch_size: {batch_size}
  epochs: {epochs}
seeds: {seeds}
tables: [{{columns: [test_error]}}]
"""


def make_data(place: Path, num_train: int) -> str:
    """Write random images as an own data set; return its digest."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, number in (("train", num_train), ("test", 1000)):
        arrays[f"{part}_x"] = rng.integers(0, 256, (number, 1, 28, 28), dtype=np.uint8)
        arrays[f"{part}_y"] = rng.integers(0, 10, number)
    path = place / "npz" / "noise.npz"
    path.parent.mkdir()
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def mps(wanted: bool) -> Iterator[None]:
    """Run CUDA's Multi-Process Service meanwhile."""
    if not wanted:
        yield
        return
    subprocess.run(["nvidia-cuda-mps-control", "-d"], check=True)
    try:
        yield
    finally:
        subprocess.run(["nvidia-cuda-mps-control"], input="quit\n", text=True, check=False, timeout=10)


def images_per_second(
    place: Path, number: int, threads: int, arguments: argparse.Namespace, sha256: str
) -> float:
    """Launch twice `number` trials, `number` at a time; return the images per second of all together."""
    from gridrun import load_epochs
    from gridrun.store import Store

    grid, results = place / f"{number}.yaml", place / f"results{number}x{threads}"
    settings = {"sha256": sha256, "num_train": arguments.images, "precision": arguments.precision}
    grid.write_text(GRID.format(seeds=2 * number, epochs=MEASURED_EPOCHS, batch_size=BATCH_SIZE, **settings))
    share = ["--gpus-per-trial", str(1 / number)]
    if arguments.cpu:
        share = ["--cpus", str(number * threads), "--gpus", "0"]
    share += ["--cpus-per-trial", str(threads)]
    command = [sys.executable, str(ROOT / "cli.py"), "launch", str(grid), *share]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
    done = subprocess.run(
        [*command, "--results", str(results), "--data", str(place)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=arguments.limit,
    )
    rows = [row for row in Store(results).rows().values() if row["status"] == "done"]
    if done.returncode or len(rows) < 2 * number:
        print(done.stderr[-500:], flush=True)
        return 0.0
    epochs = load_epochs(results)
    warm = epochs[epochs["epoch"] > 1]
    images = arguments.images // BATCH_SIZE * BATCH_SIZE  # an incomplete last batch is dropped
    return float(number * images / warm["train_seconds"].mean())


def end(*_: object) -> None:
    """Leave `mps`, so that it ends its daemon."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--precision", default="mixed_bf16")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for each number")
    parser.add_argument("--mps", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, end)
    with tempfile.TemporaryDirectory() as directory, mps(arguments.mps):
        place = Path(directory)
        sha256, alone = make_data(place, arguments.images), None
        for number, threads in itertools.product(arguments.at_once, arguments.threads):
            what = f"{number:3} at once, {threads:2} threads each"
            try:
                found = images_per_second(place, number, threads, arguments, sha256)
            except subprocess.TimeoutExpired:
                print(f"{what}: not over after {arguments.limit:g} s", flush=True)
                continue
            alone = alone or found
            ratio = f"{found / alone:.2f} of the first" if alone else ""
            an_hour = 3600 * found / (EPOCHS * arguments.images)
            print(
                f"{what}: {found:9,.0f} images/s, {an_hour:8.2f} trials of {EPOCHS} epochs an hour  {ratio}",
                flush=True,
            )


if __name__ == "__main__":
    main()
