"""Many trials: what each costs to run and to keep, and how long commands take in a large store.

    python benchmarks/scale.py [executor [--trials 1000 10000] | store [--trials 100000]]

`executor` runs trials that do nothing through the Ray executor and into a store, all of gridrun but
the training, beside as many Tune trials that only report (with used workers, as ours). Milliseconds
a trial count from the first trial's start, so without Ray's and torch's. `store` makes up a store
and times commands on it, each in a process of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gridrun import resources
from gridrun.executors.ray import tune
from gridrun.grid import load_grid
from gridrun.store import Store, parquet
from gridrun.store.records import EPOCH_TYPES, TRIAL_TYPES
from gridrun.sweep import provenance, worker
from gridrun.sweep.events import Ended
from gridrun.sweep.queue import QueuedTrial, TrialQueue
from gridrun.trial import Trial
from trainer import Runtime, TrainConfig, files

ROOT = Path(__file__).parent.parent
CPUS = 2


def executor(counts: Sequence[int]) -> None:
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    config = TrainConfig.from_dict({"model": {"name": "resnet_preact", "depth": 8}, "epochs": 1})
    with (
        tempfile.TemporaryDirectory() as directory,
        tune.RayTuneExecutor(cpus=CPUS) as runs,
    ):
        runs._session.start(cpus=CPUS, gpus=0)
        from benchmarks import _idle  # imports ray, which is to find its settings then

        _idle.install()
        _ours(runs, [Trial(config, seed) for seed in range(4)], Path(directory) / "warm")
        print(f"{CPUS} workers; ms a trial: raw Tune, gridrun; bytes a trial in the two Parquet files")
        for count in counts:
            raw = _raw_tune(count) / count
            trials = [Trial(config, seed) for seed in range(count)]
            results = Path(directory) / str(count)
            ours = _ours(runs, trials, results) / count
            figures = f"{1e3 * raw:6.1f} {1e3 * ours:6.1f} ({ours / raw:.2f}x) {_disk(results) / count:6.0f}"
            print(f"  {count:7,} trials {figures}", flush=True)


def _ours(runs: tune.RayTuneExecutor, trials: list[Trial], results: Path) -> float:
    """Return the seconds from the first trial's start to the last one's end, all compacted."""
    store = Store(results)
    store.create()
    runtime = Runtime(cache_dir=resources.default_cache_dir())
    code = provenance.of_code()
    setup = worker.Setup(results=results, runtime=runtime, code=code, stop_file=results / "stop")
    started: list[float] = []
    ended = 0

    def handle(event: Any) -> None:
        nonlocal ended
        started or started.append(time.perf_counter())
        ended += isinstance(event, Ended)
        store.compact()

    runs.run(TrialQueue(map(QueuedTrial, trials)), setup, handle)
    store.compact(now=True)
    seconds = time.perf_counter() - started[0]
    assert ended == len(store.statuses()) == len(trials)
    store.tidy()
    return seconds


def _raw_tune(count: int) -> float:
    """Return the seconds from the first to the last trial of Tune's own."""
    from ray import tune

    times: list[float] = []

    class Clock(tune.Callback):
        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            times.append(time.perf_counter())

        def __getstate__(self) -> dict[str, Any]:
            return {}

    def nothing(config: dict[str, Any]) -> None:
        tune.report({"done_": config["number"]})

    with tempfile.TemporaryDirectory() as directory:
        tune.Tuner(
            tune.with_resources(nothing, {"cpu": 1}),
            param_space={"number": tune.grid_search(list(range(count)))},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(storage_path=directory, verbose=0, callbacks=[Clock()]),
        ).fit()
        return time.perf_counter() - times[0]


def _disk(results: Path) -> int:
    return sum((results / f"{name}.parquet").stat().st_size for name in ("trials", "epochs"))


GRID = """
title: A large grid
base: {{model: {{name: resnet_preact, depth: 8}}, epochs: 10}}
axes:
  - lr: [{}]
  - weight_decay: [{}]
seeds: 10
"""


def store(count: int) -> None:
    from benchmarks._idle import record

    side = round((count / 10) ** 0.5)
    with tempfile.TemporaryDirectory() as directory:
        grid = Path(directory) / "large.yaml"
        lrs = ", ".join(f"{0.01 * (i + 1):.2f}" for i in range(side))
        decays = ", ".join(f"{0.0001 * (i + 1):.4f}" for i in range(side))
        grid.write_text(GRID.format(lrs, decays))
        results = Path(directory) / "results"
        made = Store(results)
        made.create()
        trials = load_grid(grid).trials
        code = dataclasses.replace(provenance.of_code(), cpu="a CPU", device="cpu", threads=1)
        for start in range(0, len(trials), 20_000):
            records = [record(trial, code, epochs=10) for trial in trials[start : start + 20_000]]
            rows = [row for one in records for row in one.epoch_rows()]
            with files.temporary_beside(made.epochs_path) as partial:
                parquet.append(made.epochs_path, rows, EPOCH_TYPES, [], partial)
            with files.temporary_beside(made.trials_path) as partial:
                parquet.append(made.trials_path, [one.row() for one in records], TRIAL_TYPES, [], partial)
        small = ROOT / "grids" / "quickstart.yaml"
        print(f"{len(trials):,} trials of 10 epochs, {_disk(results) / len(trials):.0f} bytes each")
        print("seconds, and a CPU's seconds, of:")
        for arguments in (
            ["--help"],
            ["status"],
            ["status", small],
            ["table", small],
            ["show", trials[0].trial_id],
            ["plan", grid, "--json"],
            ["status", grid],
            ["table", grid, "--format", "csv"],
            ["launch", grid],
        ):
            elapsed, busy = _seconds(arguments, results)
            print(f"  {elapsed:6.2f} {busy:6.2f}  gridrun {' '.join(map(str, arguments))}", flush=True)


def _seconds(arguments: Sequence[Any], results: Path) -> tuple[float, float]:
    """Return how long a command takes, and how long a CPU is busy with it; the best of three."""
    found = []
    for _ in range(3):
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, ROOT / "cli.py", *map(str, arguments)],
            env={**os.environ, "GRIDRUN_RESULTS": str(results)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        elapsed, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append((elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["executor", "store"])
    parser.add_argument("--trials", type=int, nargs="+")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))  # `_idle` is imported by its full name, as in Ray's workers
    if arguments.part != "store":
        executor(arguments.trials or [1_000, 10_000])
    if arguments.part != "executor":
        for count in arguments.trials or [100_000]:
            store(count)


if __name__ == "__main__":
    main()
