"""Following a launch by its events."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from gridrun.describe import describe
from gridrun.executors.base import Ended, Event, Progress, Started
from gridrun.launch_state import LaunchState, Over, Running
from gridrun.trial import Trial
from gridrun.tries import Failed
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
        cost: work of a trial, in any unit; the time left follows from the time its done part took.
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
        self._before = 0.0  # of what is done: by earlier launches
        self._clock, self._started = clock, clock()
        self._turns: dict[str, float] = {}
        self.state = LaunchState(started_at=started_at, total=len(trials))

    def handle(self, event: Event | Failed) -> None:
        """Take note of an event."""
        match event:
            case Started(trial):
                self._turns[trial.trial_id] = self._clock()
                self._run(Running(trial_id=trial.trial_id, about=describe(trial), epochs=trial.config.epochs))
            case Progress(trial, epoch, place):
                self._progress(trial, epoch)
                self._run(
                    Running(
                        trial_id=trial.trial_id,
                        about=describe(trial),
                        epochs=trial.config.epochs,
                        epoch=epoch.epoch,
                        test_error=epoch.test_error,
                        images_per_second=trial.config.images_per_epoch / epoch.train_seconds,
                        place=place,
                    )
                )
            case Ended(trial, "busy" | "interrupted"):
                self._leave(trial)
            case Ended(trial, outcome, epoch):
                self._end(trial, outcome, test_error=epoch.test_error if epoch else None)
            case Failed(trial, again=True):
                self._leave(trial)
            case Failed(trial, _, reason):
                self._end(trial, "failed", reason=reason)

    def snapshot(self) -> LaunchState:
        """Return the state now."""
        costs = self._costs
        done = self._done + sum(
            costs.get(run.trial_id, 0.0) * run.epoch / run.epochs for run in self.state.running
        )
        here = done - self._before
        elapsed = self._clock() - self._started
        return dataclasses.replace(
            self.state,
            share=done / self._total if self._total else 1.0,
            seconds_left=elapsed * max(self._total - done, 0.0) / here if here > 0 else None,
        )

    def _progress(self, trial: Trial, epoch: Epoch) -> None:
        """At the first sign of a trial's turn, tell its epochs from those of earlier launches."""
        since = self._turns.pop(trial.trial_id, None)
        if since is not None:
            here = max((self._clock() - since) / epoch.train_seconds, 1.0)
            before = max(epoch.epoch - here, 0.0)
            self._before += self._costs.get(trial.trial_id, 0.0) * before / trial.config.epochs

    def _run(self, run: Running) -> None:
        others = tuple(other for other in self.state.running if other.trial_id != run.trial_id)
        self.state = dataclasses.replace(self.state, running=(*others, run))

    def _leave(self, trial: Trial) -> None:
        left = tuple(run for run in self.state.running if run.trial_id != trial.trial_id)
        self.state = dataclasses.replace(self.state, running=left)

    def _end(self, trial: Trial, outcome: str, **about: Any) -> None:
        self._leave(trial)
        self._done += self._costs.get(trial.trial_id, 0.0)
        over = Over(trial_id=trial.trial_id, about=describe(trial), outcome=outcome, **about)
        failed = outcome in ("failed", "diverged")
        self.state = dataclasses.replace(
            self.state,
            ended=self.state.ended + 1,
            last=(over, *self.state.last)[:NUM_LAST],
            failures=(over, *self.state.failures)[:NUM_LAST] if failed else self.state.failures,
        )
