"""Reordering the queue as a launch learns how long trials take."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridrun.plan import Plan
from gridrun.resources import Capacity
from gridrun.store import Store
from gridrun.sweep import reschedule
from gridrun.sweep.events import Progress, Started
from gridrun.sweep.progress import Tracker
from gridrun.sweep.queue import QueuedTrial, TrialQueue
from gridrun.sweep.reschedule import Rescheduler
from gridrun.sweep.retries import Retry
from gridrun.trial import Trial
from trainer import TrainConfig
from trainer.metrics import Epoch

USUAL = {"model": {"name": "resnet_preact", "depth": 8}, "epochs": 10}
A, B = (TrainConfig.from_dict(USUAL | {"batch_size": size}) for size in (8, 4))
TRIALS = [Trial(config, seed) for seed in range(3) for config in (A, B)]
PLAN = Plan(tuple(TRIALS), len(TRIALS), {}, {trial.trial_id: trial.seed for trial in TRIALS})


def epoch(number: int, seconds: float) -> Epoch:
    figures = {"lr": 0.1, "train_loss": 1.0, "train_error": 0.5, "test_loss": 1.0, "test_error": 0.5}
    return Epoch(epoch=number, train_seconds=seconds, **figures)


@pytest.fixture
def tracker() -> Tracker:
    return Tracker(TRIALS, "2026-01-01T00:00:00+00:00", cost=lambda trial: 1.0, clock=lambda: 0.0)


def run(tracker: Tracker, trial: Trial, seconds: float) -> None:
    """Start a trial and finish the first of its ten epochs."""
    tracker.handle(Started(trial))
    tracker.handle(Progress(trial, epoch(1, seconds)))


def waiting(trial_queue: TrialQueue) -> list[tuple[int, int]]:
    return [(queued.trial.seed, queued.trial.config.batch_size) for queued in trial_queue.waiting]


def test_epochs_update_the_order_and_the_time_left(
    tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reschedule, "_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(reschedule, "_MAX_TIME_SHARE", 1e9)
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS[2:]))
    rescheduler = Rescheduler(Store(tmp_path), PLAN, Capacity(cpus=2, gpus=0), trial_queue, tracker)
    run(tracker, TRIALS[0], 1.0)
    run(tracker, TRIALS[1], 2.0)
    rescheduler.update()
    assert waiting(trial_queue) == [(1, 4), (1, 8), (2, 4), (2, 8)]
    # 9 s and 18 s are left of those that run; then 20 at 9, 10 at 18, 20 at 28, 10 at 29.
    assert tracker.snapshot().seconds_left == pytest.approx(48.0)
    run(tracker, TRIALS[0], 3.0)
    rescheduler.update()
    assert waiting(trial_queue) == [(1, 8), (1, 4), (2, 8), (2, 4)], "now the other one takes longer"


def test_retries_come_after_the_other_trials_of_their_seed(tracker: Tracker, tmp_path: Path) -> None:
    trial_queue = TrialQueue(
        [*map(QueuedTrial, TRIALS[1:]), QueuedTrial(TRIALS[0], Retry("then", attempts=1))]
    )
    run(tracker, TRIALS[0], 1.0)
    Rescheduler(Store(tmp_path), PLAN, Capacity(cpus=1, gpus=0), trial_queue, tracker).update()
    assert waiting(trial_queue)[:3] == [(0, 4), (0, 8), (1, 4)]


def test_not_every_event_causes_a_forecast(tracker: Tracker, tmp_path: Path) -> None:
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS[2:]))
    rescheduler = Rescheduler(Store(tmp_path), PLAN, Capacity(cpus=2, gpus=0), trial_queue, tracker)
    rescheduler.update()
    before = waiting(trial_queue)
    run(tracker, TRIALS[0], 1.0)
    run(tracker, TRIALS[1], 1000.0)
    rescheduler.update()
    assert waiting(trial_queue) == before
    assert tracker.snapshot().seconds_left is None


def test_an_unreadable_store_leaves_the_order_alone(tracker: Tracker, tmp_path: Path) -> None:
    (tmp_path / "trials.parquet").write_text("damaged")
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS))
    before = waiting(trial_queue)
    run(tracker, TRIALS[0], 1.0)
    Rescheduler(Store(tmp_path), PLAN, Capacity(cpus=2, gpus=0), trial_queue, tracker).update()
    assert waiting(trial_queue) == before
