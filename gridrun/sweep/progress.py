"""Following a launch by its events."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from gridrun.grid.describe import describe
from gridrun.store.launch_state import EndedTrial, LaunchState, Running
from gridrun.sweep.events import Ended, Event, Progress, Started
from gridrun.sweep.retries import Failed
from gridrun.trial import Trial
from trainer.metrics import Epoch

NUM_LAST = 5
"""Trials that a state names of those that ended, and of those that failed."""


def work(trial: Trial) -> float:
    """Return a trial's work as images to train on: right among trials of one network."""
    return float(trial.config.epochs * trial.config.images_per_epoch)


class Tracker:
    """Follows the events of a launch.

    Args:
        trials: all that are to run.
        started_at: UTC, ISO 8601.
        cost: work of a trial, in any unit.
        clock: seconds.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        started_at: str,
        cost: Callable[[Trial], float] = work,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._costs = {trial.trial_id: cost(trial) for trial in trials}
        self._total = sum(self._costs.values())
        self._done = 0.0
        self._clock = clock
        self._over_at: float | None = None
        self.running: dict[Trial, Epoch | None] = {}
        """Trials that run, with the last epoch of each; None before its first."""
        self.state = LaunchState(started_at=started_at, total=len(trials))

    def expect(self, seconds: float | None) -> None:
        """Take note that all is going to be over in so many seconds, None if that cannot be told."""
        can_tell = seconds is not None and math.isfinite(seconds)
        self._over_at = self._clock() + seconds if seconds is not None and can_tell else None

    def handle(self, event: Event | Failed) -> None:
        """Take note of an event."""
        match event:
            case Started(trial):
                self._run(trial, None)
            case Progress(trial, epoch, place):
                self._run(trial, epoch, place)
            case Ended(trial, "busy" | "interrupted"):
                self._leave(trial)
            case Ended(trial, outcome, epoch):
                self._end(trial, outcome, test_error=epoch.test_error if epoch else None)
            case Failed(trial, will_retry=True):
                self._leave(trial)
                self.state = dataclasses.replace(self.state, again=(*self.state.again, trial.trial_id))
            case Failed(trial, _, reason):
                self._end(trial, "failed", reason=reason)

    def snapshot(self) -> LaunchState:
        """Return the state now. Any thread may ask."""
        state, over_at = self.state, self._over_at  # another thread may change both meanwhile
        done = self._done + sum(
            self._costs.get(run.trial_id, 0.0) * run.epoch / run.epochs for run in state.running
        )
        return dataclasses.replace(
            state,
            share=done / self._total if self._total else 1.0,
            seconds_left=None if over_at is None else max(over_at - self._clock(), 0.0),
        )

    def _run(self, trial: Trial, epoch: Epoch | None, place: str = "") -> None:
        run = Running(trial_id=trial.trial_id, about=describe(trial), epochs=trial.config.epochs)
        if epoch:
            run = dataclasses.replace(
                run,
                epoch=epoch.epoch,
                test_error=epoch.test_error,
                images_per_second=trial.config.images_per_epoch / epoch.train_seconds,
                place=place,
            )
        self.running[trial] = epoch
        others = tuple(other for other in self.state.running if other.trial_id != run.trial_id)
        again = tuple(trial_id for trial_id in self.state.again if trial_id != run.trial_id)
        self.state = dataclasses.replace(self.state, running=(*others, run), again=again)

    def _leave(self, trial: Trial) -> None:
        self.running.pop(trial, None)
        left = tuple(run for run in self.state.running if run.trial_id != trial.trial_id)
        self.state = dataclasses.replace(self.state, running=left)

    def _end(self, trial: Trial, outcome: str, **about: Any) -> None:
        self._leave(trial)
        self._done += self._costs.get(trial.trial_id, 0.0)
        over = EndedTrial(trial_id=trial.trial_id, about=describe(trial), outcome=outcome, **about)
        failed = outcome in ("failed", "diverged")
        self.state = dataclasses.replace(
            self.state,
            ended=self.state.ended + 1,
            last=(over, *self.state.last)[:NUM_LAST],
            failures=(over, *self.state.failures)[:NUM_LAST] if failed else self.state.failures,
        )
