"""How close the order of trials comes to the best possible one, with the times of a published study.

    python benchmarks/makespan.py [--gpus 8] [--draws 1000]

Each trial takes its published training time; nothing is trained. An order is measured by when its last
trial ends, relative to the lower bound: all GPUs busy to the end, or the longest trial alone. `ours` is
the order of `gridrun launch` with exact estimates. `estimates off` multiplies each estimate by a random
factor (lognormal, sigma 0.2). `no past` starts with an empty store, so from multiply-accumulates and batch
sizes alone, and reorders as epochs and trials end. `as begun` does not reorder.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gridrun.grid import load_grid
from gridrun.metrics import parse_time
from gridrun.plan import Plan
from gridrun.plan.costs import Costs
from gridrun.plan.forecast import make_forecast
from gridrun.plan.schedule import Job, makespan_of, ordered
from gridrun.resources import Capacity, Hardware
from gridrun.trial import Trial, config_id
from trainer import TrainConfig

GRIDS = Path(__file__).parent.parent / "grids"
STUDIES = {
    "200 epochs, cosine and multistep": ("linear_scaling",),
    "the same, and 400 and 800 epochs": ("linear_scaling", "longer_training"),
}
OFF = 0.2
HARDWARE = Hardware("a GPU", is_gpu=True)


def published(grid: str) -> list[tuple[TrainConfig, float]]:
    """Return the config of each row of a grid, and the training time published for it."""
    found = []
    for table in load_grid(GRIDS / f"{grid}.yaml").tables:
        for row in table.rows:
            seconds = parse_time(str(table.published[row.config_id].values["train_time"]))
            assert seconds
            found.append((row.config, seconds))
    return found


def guessed(times: Sequence[tuple[TrainConfig, float]]) -> list[tuple[float, float]]:
    """Return the time of each row, and the estimate of an empty store."""
    costs = Costs([], HARDWARE)
    return [(seconds, costs.of(config, config_id(config)).amount) for config, seconds in times]


def lower_bound(seconds: Sequence[float], slots: int) -> float:
    """Return the makespan that no order can beat: all slots busy to the end, or the longest job alone."""
    return max(sum(seconds) / slots, max(seconds, default=0.0))


def ours(times: Sequence[tuple[float, float]], seeds: int, gpus: int) -> float:
    """Return the makespan of our order of rows, each with its time and our estimate of it."""
    jobs = [Job(seconds, estimate, seed) for seed in range(seeds) for seconds, estimate in times]
    order = ordered(jobs, Capacity(cpus=gpus, gpus=gpus))
    return makespan_of([job.what for job in order], gpus)


def learning(times: Sequence[tuple[TrainConfig, float]], seeds: int, gpus: int) -> float:
    """Return the makespan of rows, each with its time, if the order is updated whenever a trial ends.

    Estimates know the epochs of running trials and the times of ended ones, and nothing else.
    """
    seconds = {Trial(config, seed): time for config, time in times for seed in range(seeds)}
    capacity = Capacity(cpus=gpus, gpus=gpus)
    plan = Plan(tuple(seconds), len(seconds), {}, {trial.trial_id: trial.seed for trial in seconds})
    waiting, running, past = list(seconds), dict[Trial, float](), list[dict[str, Any]]()
    now = 0.0
    while waiting or running:
        epochs = {
            trial: int(trial.config.epochs * (now - started) / seconds[trial])
            for trial, started in running.items()
        }
        pace = {trial: seconds[trial] for trial, epoch in epochs.items() if epoch}
        order = make_forecast(
            plan,
            waiting,
            Costs(past, HARDWARE, pace),
            capacity,
            {trial.trial_id: epoch for trial, epoch in epochs.items()},
            running,
        ).trials
        room = gpus - len(running)
        running.update(dict.fromkeys(order[:room], now))
        waiting = list(order[room:])
        now, ended = min((started + seconds[trial], trial.trial_id) for trial, started in running.items())
        trial = next(trial for trial in running if trial.trial_id == ended)
        del running[trial]
        past.append(record(trial, seconds[trial]))
    return now


def record(trial: Trial, seconds: float) -> dict[str, Any]:
    """Return the row that a store would have of a done trial."""
    about = {"config_id": trial.config_id, "config_json": json.dumps(trial.config.canonical())}
    times = {"started_at": None, "ended_at": "", "resumes": 0, "train_seconds": seconds, "macs": 0}
    return {**about, **times, "status": "done", "gpu": HARDWARE.name}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--draws", type=int, default=1000)
    arguments = parser.parse_args()
    gpus, draws = arguments.gpus, arguments.draws
    print(f"{gpus} GPUs, makespan over the lower bound; random orders and estimates: mean of {draws}")
    orders = ("ours", "estimates off", "no past", "as begun", "longest first", "grid order", "random")
    print(f"| study | seeds | bound | {' | '.join(orders)} |")
    print(f"| --- | ---: | ---: | {' | '.join('---:' for _ in orders)} |")
    for study, grids in STUDIES.items():
        times = [pair for grid in grids for pair in published(grid)]
        seconds = [time for _, time in times]
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
                learning(times, seeds, gpus),
                ours(guessed(times), seeds, gpus),
                makespan_of(sorted(every, reverse=True), gpus),
                makespan_of(every, gpus),
                statistics.mean(makespan_of(rng.sample(every, len(every)), gpus) for _ in range(draws)),
            ]
            cells = " | ".join(f"{figure / bound:.3f}" for figure in figures)
            print(f"| {study} ({len(seconds)} rows) | {seeds} | {bound / 3600:.2f} h | {cells} |")


if __name__ == "__main__":
    main()
