"""What a launch makes of its executor's events: records, retries, the queue, and what it tells its user."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gridrun.plan import Forecast, Plan
from gridrun.store import Store, unwritable
from gridrun.store.launches import LaunchState
from gridrun.sweep import provenance
from gridrun.sweep.events import Ended, Event, Lost, Progress, Started
from gridrun.sweep.later_seeds import More
from gridrun.sweep.progress import Tracker
from gridrun.sweep.queue import QueuedTrial, TrialQueue
from gridrun.sweep.reschedule import Rescheduler
from gridrun.sweep.retries import Failed, RetryState
from gridrun.sweep.worker import failed_record
from gridrun.text import utc_now
from gridrun.trial import Trial
from trainer import files


@dataclass(frozen=True, slots=True)
class Preparing:
    """A data set is being decoded, perhaps downloaded."""

    dataset: str


@dataclass(frozen=True, slots=True)
class Planned:
    """These trials are about to run, in this order."""

    trials: tuple[Trial, ...]
    forecast: Forecast | None = None


LaunchEvent = Event | Planned | Preparing | Failed
OnEvent = Callable[[LaunchEvent], None]
OnState = Callable[[LaunchState], None]


class Bookkeeper:
    """Keeps the store, the queue and the state of the launch in step with the executor's events."""

    def __init__(
        self,
        store: Store,
        drain_file: Path,
        plan: Plan,
        forecast: Forecast,
        retry_state: RetryState,
        on_event: OnEvent,
        on_state: OnState,
        more: More,
    ) -> None:
        self.store, self.drain_file, self.retry_state = store, drain_file, retry_state
        self.on_event, self.on_state, self.more = on_event, on_state, more
        retries, parents = retry_state.retries, plan.parents
        self.trial_queue = TrialQueue(
            (
                QueuedTrial(trial, retries.get(trial.trial_id), parents.get(trial.trial_id))
                for trial in forecast.trials
            ),
            is_free=functools.partial(_is_free, store),
        )
        whole = {trial_id: cost.amount or 1.0 for trial_id, cost in forecast.costs.items()}
        left = {trial_id: amount or whole[trial_id] for trial_id, amount in forecast.left.items()}
        self.tracker = Tracker(
            forecast.trials,
            utc_now(),
            lambda trial: left[trial.trial_id],
            begun=lambda trial: max(1 - left[trial.trial_id] / whole[trial.trial_id], 0.0),
            names=plan.names,
        )
        self.tracker.expect(forecast.makespan_seconds)
        self.rescheduler = Rescheduler(store, plan, forecast.capacity, self.trial_queue, self.tracker)
        self.started: set[str] = set()
        self.elsewhere: set[str] = set()  # trained by other launches meanwhile
        self.failed_in_a_row: set[str] = set()  # failed since the last trial that was done
        self.gave_up = False

    def has_trials_left(self) -> bool:
        """Return whether trials of the queue have still to run; another launch may have trained some."""
        return any(self.retry_state.should_run(entry.trial) for entry in self.trial_queue.left)

    def handle(self, event: LaunchEvent) -> None:
        """Record an event and pass it on. A failure is passed on as `Failed`, which says what comes next.

        What another launch has trained is not passed on: that launch tells its own user.
        """
        is_ours = True
        match event:
            case Started(trial) if (end := self.store.end(trial.trial_id)) and end.status == "done":
                is_ours = False
            case Ended(trial, "done", None):  # without an epoch: the worker found the record
                is_ours = False
                self.elsewhere.add(trial.trial_id)
            case Lost(trial, failure, reason):
                attempts = self.retry_state.attempts(trial)
                code = provenance.of_code()
                self.store.add(failed_record(trial, failure, reason, attempts=attempts, provenance=code))
                event = self._handle_failure(trial)
            case Ended(trial, "failed"):
                event = self._handle_failure(trial)
            case Ended(trial, "busy"):
                self.trial_queue.put_off(trial)
            case Ended(trial, outcome):
                self.started.add(trial.trial_id)
                if outcome == "interrupted":
                    self.trial_queue.put_back(trial, self.retry_state.retries.get(trial.trial_id))
                elif outcome == "done":
                    self.failed_in_a_row.clear()
        self.store.compact()
        if is_ours:
            self.on_event(event)
        self.tracker.handle(event)
        if isinstance(event, Ended) and event.outcome in ("done", "diverged"):
            for queued in self.more(event.trial):
                self.tracker.add(queued.trial)
                self.trial_queue.add(queued)
        if isinstance(event, (Progress, Ended, Failed)):
            self.rescheduler.update()
        self.on_state(self.tracker.snapshot())

    def _handle_failure(self, trial: Trial) -> Ended | Failed:
        """Decide what to do about a trial whose record says that it failed."""
        self.started.add(trial.trial_id)
        row = self.store.rows([trial.trial_id], ("failure", "error")).get(trial.trial_id)
        if row is None:  # somebody has taken the record out meanwhile, and may train the trial anew
            self.trial_queue.put_off(trial)
            return Ended(trial, "busy")
        if row["status"] == "done":  # its worker died after it had written the record
            return Ended(trial, "done")
        self.failed_in_a_row.add(trial.trial_id)
        limit = self.retry_state.policy.stop_after_failures
        if limit and len(self.failed_in_a_row) >= limit:
            self.gave_up = True
            try:
                files.touch(self.drain_file)
            except OSError as error:  # on a full disk no worker would notice, so the launch has to end here
                raise unwritable(self.store.root, error) from error
        will_retry = not self.gave_up and self.retry_state.should_run(trial)
        if will_retry:
            self.trial_queue.put_back(trial, self.retry_state.retries[trial.trial_id])
        return Failed(trial, row.get("failure"), row.get("error") or "", will_retry)


def _is_free(store: Store, trial: Trial) -> bool:
    """Return whether no other launch seems to hold a trial's lock. The worker finds out for sure."""
    with contextlib.suppress(OSError):
        return not store.is_locked(trial.trial_id)
    return True
