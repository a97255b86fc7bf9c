"""Reordering of the trials that wait, as a launch learns how long trials take."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

from gridrun.errors import StoreError
from gridrun.plan import Plan, forecast_from
from gridrun.resources import Capacity
from gridrun.store import Store
from gridrun.sweep.progress import Tracker
from gridrun.sweep.queue import TrialQueue

_INTERVAL_SECONDS = 5.0
_MAX_TIME_SHARE = 0.02
"""Largest part of a launch's time to spend here. Without it, large launches would spend ever more."""


class Rescheduler:
    """Forecasts again every few seconds; reorders the queue and tells the tracker the time left.

    The forecast uses the trials that have ended and the epochs of those that run.
    """

    def __init__(
        self, store: Store, plan: Plan, capacity: Capacity, trial_queue: TrialQueue, tracker: Tracker
    ) -> None:
        self._store, self._plan, self._capacity = store, plan, capacity
        self._trial_queue, self._tracker = trial_queue, tracker
        self._next_at = 0.0
        # Returns the trials to leave for last, as the records have it now.
        self.last: Callable[[], frozenset[str]] = lambda: plan.last

    def update(self) -> None:
        """Reorder the queue, unless that was done a moment ago."""
        started = time.monotonic()
        if started < self._next_at:
            return
        queued = self._trial_queue.waiting
        again = frozenset(entry.trial.trial_id for entry in queued if entry.retry)
        with contextlib.suppress(StoreError):  # the old order still works; whoever needs the file reports it
            forecast = forecast_from(
                self._store,
                replace(self._plan, to_retry=again, shared={}, last=self.last()),
                [entry.trial for entry in queued],
                self._capacity,
                self._tracker.running,
            )
            self._trial_queue.order(forecast.trials)
            self._tracker.expect(forecast.makespan_seconds)
        ended = time.monotonic()
        self._next_at = ended + max(_INTERVAL_SECONDS, (ended - started) / _MAX_TIME_SHARE)
