"""How long commands take on a grid of 10,000 rows with ten seeds. Nothing is trained.

    python benchmarks/large_grid.py [--runs 3]

`plan` runs with none, half and all of the trials done, the other commands with all done. `launch` then
has nothing to do and prints the table. The records are made up.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from gridrun.grid import Grid, load_grid
from gridrun.store import Store, parquet
from gridrun.store.records import EPOCH_TYPES, TRIAL_TYPES, Provenance, Record
from gridrun.sweep.worker import identity_of
from gridrun.trial import Trial
from trainer import files
from trainer.metrics import Epoch

ROOT = Path(__file__).parent.parent
GRID = """
base: {{dataset: digits, model: {{name: resnet_preact, depth: 8}}, epochs: 2}}
axes:
  - lr: {lrs}
  - weight_decay: {decays}
  - schedule: [cosine, multistep]
derive: {{schedule.milestones: [0.5 * epochs, 0.75 * epochs]}}
seeds: 10
"""


def write_grid(path: Path) -> Grid:
    """Write a grid of 2 x 100 x 50 rows."""
    lrs = [round(0.001 * (1 + i), 6) for i in range(100)]
    decays = [round(0.0001 * (1 + i), 6) for i in range(50)]
    path.write_text(GRID.format(lrs=lrs, decays=decays))
    return load_grid(path)


def record(trial: Trial, provenance: Provenance) -> Record:
    """Make up the record of a trial."""
    error = 0.1 + 0.01 * (trial.seed % 7)
    epoch = Epoch(
        epoch=2, lr=0.0, train_loss=1.0, train_error=0.2, test_loss=1.0, test_error=error, train_seconds=0.4
    )
    return Record(
        **identity_of(trial),
        status="done",
        started_at="2026-01-01T00:00:00+00:00",
        ended_at="2026-01-01T00:00:01+00:00",
        test_error=error,
        train_seconds=0.8 + int(trial.trial_id[:8], 16) / 2**32,  # no two alike, as in real stores
        images_per_second=3500.0,
        epochs_trained=2,
        provenance=provenance,
        epochs=(epoch,),
    )


def fill(store: Store, trials: list[Trial]) -> None:
    """Write records of all trials at once."""
    store.create()
    provenance = Provenance(commit="a" * 40, dirty=False, cpu="a CPU", device="cpu", threads=1)
    records = [record(trial, provenance) for trial in trials]
    epochs = [row for one in records for row in one.epoch_rows()]
    with files.temporary_beside(store.epochs_path) as partial:
        parquet.append(store.epochs_path, epochs, EPOCH_TYPES, (), partial)
    with files.temporary_beside(store.trials_path) as partial:
        parquet.append(store.trials_path, [one.row() for one in records], TRIAL_TYPES, (), partial)


def seconds(runs: int, *arguments: object) -> float:
    """Return the least CPU time of a command; on an idle machine you wait as long for it."""
    found = []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)], check=True, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "grid.yaml"
        trials = list(write_grid(path).trials)
        none, half, everything = (Path(directory) / part for part in ("none", "half", "all"))
        fill(Store(half), trials[::2])
        fill(Store(everything), trials)
        print(f"seconds of CPU, the least of {runs}")
        for name, *arguments in (
            ("plan, none done", "plan", path, "--results", none),
            ("plan, half done", "plan", path, "--results", half),
            ("plan, all done", "plan", path, "--results", everything),
            ("launch, all done", "launch", path, "--results", everything),
            ("status", "status", path, "--results", everything),
            ("table", "table", path, "--results", everything),
        ):
            print(f"| {name} | {seconds(runs, *arguments):.1f} |", flush=True)


if __name__ == "__main__":
    main()
