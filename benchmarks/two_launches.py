"""Two launches of one grid at once, over and over: is each trial trained once, a failing one three times?

    python benchmarks/two_launches.py [--repetitions 50]

Twelve trials of a fraction of a second, three of which always run out of memory; both launches
started together, each in a process of its own that writes down what it trains. Exits with 1 if a
trial was trained twice or not at all, a failing one not as often as one launch alone would try it, a
launch did not end as it should, or a file is left that should not be.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridrun.sweep.retries import DEFAULT_RETRIES

if TYPE_CHECKING:
    from gridrun.store.records import Record
    from gridrun.trial import Trial
    from trainer import TrainConfig
    from trainer.metrics import Result

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["trainer.loop", "gridrun.sweep"])  # torch takes longer than the trials

GRID = """
base:
  model: {name: resnet_preact, depth: 8, initial_channels: 4}
  train_size: 100
  batch_size: 50
  epochs: 1
axes:
  - lr: [0.1, 0.2, 0.3, 0.4]
seeds: 3
"""
NUM_TRIALS = 12
FAILING_LR = 0.4
TRIES = 1 + DEFAULT_RETRIES


def launch(grid: Path, results: Path, log: Path, said: Path) -> None:
    """Run a launch that writes down what it trains, and leave with its exit code."""
    from gridrun.sweep import worker
    from trainer import loop

    train = worker._train

    def noted(trial: Trial, *rest: Any) -> Record:
        with log.open("a") as file:
            print(trial.trial_id, file=file)
        return train(trial, *rest)

    def fail(config: TrainConfig, **options: Any) -> Result:
        if config.lr == FAILING_LR:
            raise MemoryError
        return usual(config, **options)

    usual, loop.train = loop.train, fail
    worker._train = noted
    import cli

    with said.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        cli.main(["launch", str(grid), "--results", str(results), "--executor", "serial"])


def repeat(work: Path) -> tuple[list[str], list[int]]:
    """Run two launches; return what went wrong, and how many trials each trained."""
    import pandas as pd

    grid, results = work / "grid.yaml", work / "results"
    grid.write_text(GRID)
    logs = [work / f"trained{number}" for number in range(2)]
    both = [
        PROCESSES.Process(target=launch, args=(grid, results, log, log.with_suffix(".log"))) for log in logs
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
    problems = [
        f"exit {process.exitcode}: {log.with_suffix('.log').read_text()}"
        for process, log in zip(both, logs, strict=True)
        if process.exitcode != 1  # for some trials have failed
    ]
    trained = [log.read_text().split() if log.exists() else [] for log in logs]
    counts = Counter(trained[0] + trained[1])
    table = pd.read_parquet(results / "trials.parquet").set_index("trial_id", drop=False)
    for trial, count in counts.items():
        status, lr, attempts = table.loc[trial, ["status", "lr", "attempts"]]
        expected = ("failed", TRIES, TRIES) if lr == FAILING_LR else ("done", 1, 1)
        if (status, attempts, count) != expected:
            problems.append(f"{trial} trained {count} times: {status} after {attempts} attempts")
    if sorted(table["trial_id"]) != sorted(counts) or len(counts) != NUM_TRIALS:
        problems.append(f"{len(counts)} trained, {len(table)} rows")
    epochs = pd.read_parquet(results / "epochs.parquet")
    if epochs.duplicated(["trial_id", "epoch"]).any() or len(epochs) != table["epochs_trained"].sum():
        problems.append("epochs are there twice, or missing")
    left = [
        p for p in results.rglob("*") if p.is_file() and p.parent.name in ("ended", "leases", "checkpoints")
    ]
    problems += [f"left: {path.relative_to(results)}" for path in left]
    return problems, [len(ids) for ids in trained]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=50)
    arguments = parser.parse_args()
    broken, shared = 0, 0
    for number in range(arguments.repetitions):
        with tempfile.TemporaryDirectory() as directory:
            problems, trained = repeat(Path(directory))
        broken += bool(problems)
        shared += all(trained)
        for problem in problems:
            print(f"PROBLEM in repetition {number}: {problem}", flush=True)
    print(f"{arguments.repetitions} repetitions of two launches of {NUM_TRIALS} trials: ", end="")
    print(f"{broken} with a problem; in {shared} both trained some")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
