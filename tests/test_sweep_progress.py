"""How far a launch is, and what its screen shows."""

from __future__ import annotations

import dataclasses
import io
import math

import pytest
from rich.console import Console

from gridrun.commands._views import screen
from gridrun.store.launches import LaunchState
from gridrun.sweep.events import Ended, Progress, Started
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
