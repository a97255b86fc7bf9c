"""How close the order of trials comes to the best there is, on a published study's times.

    python benchmarks/makespan.py [--gpus 8] [--draws 1000]

Trials take the training times published for them; nothing is trained. Orders are compared by the
time at which the last trial ends, over the lower bound: all GPUs busy to the end, or the longest
trial alone. `ours` is the order of `gridrun launch` with estimates that are right; with estimates
that are off by a factor drawn from a lognormal distribution (sigma 0.2); and in a store without
past trials, by multiply-accumulates and batch sizes alone.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Sequence
from pathlib import Path

from gridrun.columns import parse_time
from gridrun.costs import Costs
from gridrun.grid import load_grid
from gridrun.hardware import Hardware
from gridrun.schedule import Capacity, Job, lower_bound, makespan_of, ordered

GRIDS = Path(__file__).parent.parent / "grids"
STUDIES = {
    "200 epochs, cosine and multistep": ("linear_scaling",),
    "the same, and 400 and 800 epochs": ("linear_scaling", "longer_training"),
}
OFF = 0.2


def published(grid: str) -> list[tuple[float, float]]:
    """Return the training time published for each row of a grid, and what we would guess without a past."""
    costs = Costs([], Hardware("a GPU", is_gpu=True))
    found = []
    for table in load_grid(GRIDS / f"{grid}.yaml").tables:
        for row in table.rows:
            seconds = parse_time(str(table.published[row.config_id].values["train_time"]))
            assert seconds
            found.append((seconds, costs.of(row.config, row.config_id).amount))
    return found


def ours(times: Sequence[tuple[float, float]], seeds: int, gpus: int) -> float:
    """Return the makespan of our order of rows, each with its time and our estimate of it."""
    jobs = [Job(seconds, estimate, seed) for seed in range(seeds) for seconds, estimate in times]
    order = ordered(jobs, Capacity(cpus=gpus, gpus=gpus))
    return makespan_of([job.what for job in order], gpus)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--draws", type=int, default=1000)
    arguments = parser.parse_args()
    gpus, draws = arguments.gpus, arguments.draws
    print(f"{gpus} GPUs, makespan over the lower bound; random orders and estimates: mean of {draws}")
    print("| study | seeds | bound | ours | estimates off | no past | longest first | grid order | random |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for study, grids in STUDIES.items():
        times = [pair for grid in grids for pair in published(grid)]
        seconds = [time for time, _ in times]
        for seeds in (1, 3):
            rng = random.Random(0)
            off = (
                ours([(time, time * rng.lognormvariate(0, OFF)) for time in seconds], seeds, gpus)
                for _ in range(draws)
            )
            every = seconds * seeds  # a grid's order: its rows for one seed, then for the next
            bound = lower_bound(every, gpus)
            figures = [
                ours([(time, time) for time in seconds], seeds, gpus),
                statistics.mean(off),
                ours(times, seeds, gpus),
                makespan_of(sorted(every, reverse=True), gpus),
                makespan_of(every, gpus),
                statistics.mean(makespan_of(rng.sample(every, len(every)), gpus) for _ in range(draws)),
            ]
            cells = " | ".join(f"{figure / bound:.3f}" for figure in figures)
            print(f"| {study} ({len(seconds)} rows) | {seeds} | {bound / 3600:.2f} h | {cells} |")


if __name__ == "__main__":
    main()
