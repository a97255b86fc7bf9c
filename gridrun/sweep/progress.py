"""How far a launch is, according to its events."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gridrun.grid.describe import describe, tell_apart, what_differs
from gridrun.store.launches import EndedTrial, LaunchState, Running
from gridrun.sweep.events import Ended, Progress, Started, Stepped
from gridrun.sweep.retries import Failed
from gridrun.trial import Trial
from trainer.metrics import Epoch

NUM_LAST = 5  # how many ended trials, and how many failed ones, a state names


class Tracker:
    """Follows the events of a launch.

    `started_at` is UTC, ISO 8601. `cost` gives the work that is left of a trial in any unit, `clock` seconds,
    `begun` the part of a trial's epochs that was done before, by an earlier launch or a parent. `names` has
    the names of cases, by the ids of their trials.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        started_at: str,
        cost: Callable[[Trial], float],
        clock: Callable[[], float] = time.monotonic,
        begun: Callable[[Trial], float] = lambda trial: 0.0,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self._costs = {trial.trial_id: cost(trial) for trial in trials}
        self._begun = {trial.trial_id: begun(trial) for trial in trials}
        self._total = sum(self._costs.values())
        self._done = 0.0
        self._clock = clock
        self._ends_at: float | None = None
        self.running: dict[Trial, Epoch | None] = {}
        """The last epoch of each running trial; None before its first."""
        alike, self._about = tell_apart(trials, names)
        self._places: list[str | None] = []  # ids of running trials; None: free for the next one
        self.state = LaunchState(started_at=started_at, total=len(trials), alike=alike)

    def add(self, trial: Trial) -> None:
        """Count one more trial, with as much work as the others have on average."""
        self._costs[trial.trial_id] = self._total / max(len(self._costs), 1)
        self._total += self._costs[trial.trial_id]
        alike, (_, self._about[trial.trial_id]) = what_differs([self.state.alike, describe(trial)])
        self.state = replace(self.state, total=self.state.total + 1, alike=alike)

    def expect(self, seconds: float | None) -> None:
        """Expect the launch to end in so many seconds; None if nobody can tell."""
        self._ends_at = None if seconds is None or not math.isfinite(seconds) else self._clock() + seconds

    def handle(self, event: object) -> None:
        """Update the state by an event; those that say nothing about progress change nothing."""
        match event:
            case Started(trial):
                self._run(trial, None)
            case Progress(trial, epoch, place):
                self._run(trial, epoch, place)
            case Stepped(trial, epoch, part, place) if run := self._shown(trial):
                self._show(replace(run, epoch=epoch, part=part, place=place or run.place))
            case Ended(trial, "busy" | "interrupted"):
                self._leave(trial)
            case Ended(trial, outcome, epoch):
                self._end(trial, outcome, test_error=epoch.test_error if epoch else None)
            case Failed(trial, will_retry=True):
                self._leave(trial)
                self.state = replace(self.state, again=(*self.state.again, trial.trial_id))
            case Failed(trial, _, reason):
                self._end(trial, "failed", reason=reason)

    def snapshot(self) -> LaunchState:
        """Return the state now. Any thread may call this."""
        state, ends_at = self.state, self._ends_at  # read once: another thread may change them
        done = self._done + sum(
            self._costs.get(run.trial_id, 0.0) * self._part_done(run) for run in state.running
        )
        return replace(
            state,
            share=done / self._total if self._total else 1.0,
            seconds_left=None if ends_at is None else max(ends_at - self._clock(), 0.0),
        )

    def _part_done(self, run: Running) -> float:
        """Return how much is done of what was left of a running trial, 0..1."""
        begun = self._begun.get(run.trial_id, 0.0)
        done = (run.epoch + run.part) / run.epochs
        return min(max(done - begun, 0.0) / (1 - begun), 1.0) if begun < 1 else 1.0

    def _run(self, trial: Trial, epoch: Epoch | None, place: str = "") -> None:
        about = self._about[trial.trial_id]
        run = Running(trial_id=trial.trial_id, about=about, epochs=trial.config.last_epoch)
        if epoch:
            before = (epoch.epoch - 1) * trial.config.images_per_epoch
            images = min(trial.config.images_per_epoch, trial.config.num_images - before)
            speed = images / epoch.train_seconds
            run = replace(
                run, epoch=epoch.epoch, test_error=epoch.test_error, images_per_second=speed, place=place
            )
        self.running[trial] = epoch
        again = tuple(trial_id for trial_id in self.state.again if trial_id != run.trial_id)
        self.state = replace(self.state, again=again)
        self._show(run)

    def _shown(self, trial: Trial) -> Running | None:
        return next((run for run in self.state.running if run.trial_id == trial.trial_id), None)

    def _show(self, run: Running) -> None:
        """Show a running trial in the place that it has, or in the first that is free."""
        if run.trial_id not in self._places:
            if None not in self._places:
                self._places.append(None)
            self._places[self._places.index(None)] = run.trial_id
        runs = {other.trial_id: other for other in self.state.running} | {run.trial_id: run}
        self.state = replace(self.state, running=tuple(runs[place] for place in self._places if place))

    def _leave(self, trial: Trial) -> None:
        self.running.pop(trial, None)
        self._places = [None if place == trial.trial_id else place for place in self._places]
        others = tuple(run for run in self.state.running if run.trial_id != trial.trial_id)
        self.state = replace(self.state, running=others)

    def _end(self, trial: Trial, outcome: str, **fields: Any) -> None:
        self._leave(trial)
        self._done += self._costs.get(trial.trial_id, 0.0)
        about = self._about[trial.trial_id]
        ended = EndedTrial(trial_id=trial.trial_id, about=about, outcome=outcome, **fields)
        failed = outcome in ("failed", "diverged")
        self.state = replace(
            self.state,
            ended=self.state.ended + 1,
            last=(ended, *self.state.last)[:NUM_LAST],
            failures=(ended, *self.state.failures)[:NUM_LAST] if failed else self.state.failures,
        )
