"""How far a launch is, and what its screen shows."""

from __future__ import annotations

import dataclasses
import io
import math

import pytest
from rich.console import Console

from gridrun.commands._views import screen
from gridrun.store.launches import LaunchState
from gridrun.sweep.events import Ended, Progress, Started, Stepped
from gridrun.sweep.progress import Tracker
from gridrun.sweep.retries import Failed
from gridrun.trial import Trial
from tests.tiny import config
from trainer.metrics import Epoch


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def epoch(number: int, train_seconds: float = 10.0) -> Epoch:
    return Epoch(
        epoch=number,
        lr=0.1,
        train_loss=1.0,
        train_error=0.5,
        test_loss=1.0,
        test_error=0.25,
        train_seconds=train_seconds,
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def trials() -> list[Trial]:
    return [Trial(config(epochs=epochs), seed=0) for epochs in (4, 12)]


@pytest.fixture
def tracker(trials: list[Trial], clock: Clock) -> Tracker:
    return Tracker(trials, "2026-01-01T00:00:00+00:00", lambda trial: trial.config.num_images, clock)


def test_the_share_follows_from_the_work_done(tracker: Tracker, trials: list[Trial]) -> None:
    short, long = trials
    tracker.handle(Started(short))
    tracker.handle(Progress(short, epoch(1)))
    assert tracker.snapshot().share == pytest.approx(1 / 16)
    tracker.handle(Ended(short, "done", epoch(4)))
    tracker.handle(Started(long))
    assert tracker.running == {long: None}
    tracker.handle(Progress(long, epoch(2), "GPU 3"))
    assert tracker.running == {long: epoch(2)}
    state = tracker.snapshot()
    assert (state.ended, state.total, state.share) == (1, 2, pytest.approx(6 / 16))
    (run,) = state.running
    assert (run.epoch, run.epochs, run.test_error, run.place) == (2, 12, 0.25, "GPU 3")
    assert run.images_per_second == pytest.approx(long.config.images_per_epoch / 10)
    assert state.last[0].trial_id == short.trial_id
    assert state.last[0].test_error == 0.25


def test_the_time_left_is_counted_down_from_what_is_expected(tracker: Tracker, clock: Clock) -> None:
    assert tracker.snapshot().seconds_left is None
    tracker.expect(100.0)
    clock.seconds = 30.0
    assert tracker.snapshot().seconds_left == pytest.approx(70.0)
    clock.seconds = 130.0
    assert tracker.snapshot().seconds_left == 0
    tracker.expect(math.inf)  # some fit nowhere
    assert tracker.snapshot().seconds_left is None
    tracker.expect(None)
    assert tracker.snapshot().seconds_left is None


def test_failures_are_named_and_interrupted_trials_have_not_ended(
    tracker: Tracker, trials: list[Trial]
) -> None:
    short, long = trials
    tracker.handle(Started(short))
    tracker.handle(Started(long))
    tracker.handle(Ended(short, "interrupted"))
    assert tracker.snapshot().ended == 0
    tracker.handle(Failed(long, "worker_killed", "its worker died", will_retry=True))
    state = tracker.snapshot()
    assert (state.ended, state.running, state.failures) == (0, (), ()), "it will be tried again"
    assert state.again == (long.trial_id,)
    assert LaunchState.from_json(state.to_json()) == state
    tracker.handle(Started(long))
    assert tracker.snapshot().again == ()
    tracker.handle(Failed(long, "worker_killed", "its worker died", will_retry=False))
    state = tracker.snapshot()
    assert (state.ended, len(state.running), state.failures[0].reason) == (1, 0, "its worker died")
    assert LaunchState.from_json(state.to_json()) == state


def test_the_screen_shows_the_state_and_ignores_markup_in_it(tracker: Tracker, trials: list[Trial]) -> None:
    short, long = trials
    for event in (
        Started(short),
        Started(long),
        Progress(long, epoch(3), "GPU 1"),
        Ended(short, "diverged", epoch(2)),
    ):
        tracker.handle(event)
    state = tracker.snapshot()
    hostile = dataclasses.replace(state.running[0], about="[red]\x1b[2Jtrial")
    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(screen([dataclasses.replace(state, running=(hostile,))]))
    text = console.export_text()
    assert "1 of 2 trials" in text
    assert long.trial_id[:8] in text
    for said in ("[red][2Jtrial", "3/12", "25.00 %", "GPU 1", "failed or diverged", "diverged"):
        assert said in text, said
    assert "\x1b" not in text


def test_a_row_keeps_its_place_and_a_new_trial_takes_the_first_that_is_free(clock: Clock) -> None:
    trials = [Trial(config(epochs=4), seed=seed) for seed in range(4)]
    tracker = Tracker(trials, "2026-01-01T00:00:00+00:00", lambda trial: 1.0, clock)

    def shown() -> list[int]:
        return [int(run.about.removeprefix("seed ")) for run in tracker.snapshot().running]

    for trial in trials[:3]:
        tracker.handle(Started(trial))
    tracker.handle(Progress(trials[0], epoch(1)))
    assert shown() == [0, 1, 2]
    tracker.handle(Ended(trials[1], "done", epoch(4)))
    assert shown() == [0, 2]
    tracker.handle(Started(trials[3]))
    assert shown() == [0, 3, 2]


def test_progress_within_an_epoch_counts_and_is_shown(tracker: Tracker, trials: list[Trial]) -> None:
    short, _ = trials
    tracker.handle(Started(short))
    tracker.handle(Progress(short, epoch(1), "GPU 1"))
    tracker.handle(Stepped(short, 1, 0.5, "GPU 1"))
    state = tracker.snapshot()
    assert state.share == pytest.approx(1.5 / 16)
    (run,) = state.running
    assert (run.epoch, run.part, run.test_error, run.place) == (1, 0.5, 0.25, "GPU 1")
    assert LaunchState.from_json(state.to_json()) == state
    tracker.handle(Stepped(trials[1], 0, 0.5))  # it is not running here
    assert len(tracker.snapshot().running) == 1
    tracker.handle(Progress(short, epoch(2)))
    assert tracker.snapshot().running[0].part == 0


def test_the_screen_tells_trials_apart_at_80_columns(clock: Clock) -> None:
    rows = [config(epochs=12, lr=lr, batch_size=size) for size in (2, 8) for lr in (0.1, 0.2)]
    trials = [Trial(row, seed=seed) for row in rows for seed in range(2)]
    names = {trials[0].trial_id: "as published"}
    tracker = Tracker(trials, "2026-01-01T00:00:00+00:00", lambda trial: 1.0, clock, names=names)
    for trial in trials:
        tracker.handle(Started(trial))
        tracker.handle(Progress(trial, epoch(10), "GPU 1"))
        tracker.handle(Stepped(trial, 10, 0.25, "GPU 1"))
    console = Console(file=io.StringIO(), width=80, record=True)
    console.print(screen([tracker.snapshot()]))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines[1].startswith("all: tiny_images TinyNet")
    assert lines[1].endswith("cosine, 12 epochs")
    shown = [line for line in lines if "10.2/12" in line]
    assert [line.split("  ")[1].strip() for line in shown][:2] == [
        "as published: batch size 2, lr 0.1, seed 0",
        "batch size 2, lr 0.1, seed 1",
    ]
    assert len(shown) == 8
    assert all(" 25.00 % " in line and "GPU 1" in line for line in shown)
    assert "…" not in "".join(lines)
    console = Console(file=io.StringIO(), width=80, record=True)
    long = dataclasses.replace(tracker.snapshot().running[0], about="one more option, " * 5 + "seed 7")
    console.print(screen([dataclasses.replace(tracker.snapshot(), running=(long,))]))
    assert "seed 7" in console.export_text(), "its end is not cut off"


def test_what_is_said_of_all_trials_holds_for_those_that_are_added(clock: Clock) -> None:
    trials = [Trial(config(epochs=4), seed=seed) for seed in range(2)]
    tracker = Tracker(trials, "2026-01-01T00:00:00+00:00", lambda trial: 1.0, clock)
    assert ", lr 0.1, cosine, 4 epochs" in tracker.snapshot().alike
    tracker.add(added := Trial(config(epochs=4, lr=0.2), seed=7))
    tracker.handle(Started(added))
    state = tracker.snapshot()
    assert "lr" not in state.alike
    assert state.alike.endswith(", cosine, 4 epochs")
    assert state.running[0].about == "lr 0.2, seed 7"
