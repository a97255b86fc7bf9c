"""What a launch learns of the time that trials take, while they run: the order of the rest, the time left."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from gridrun.errors import StoreError
from gridrun.plan import Plan, forecast_from

if TYPE_CHECKING:
    from gridrun.lineup import Lineup
    from gridrun.progress import Tracker
    from gridrun.schedule import Capacity
    from gridrun.store import Store

_EVERY_SECONDS = 5.0
_SHARE = 0.02
"""Part of a launch's time that this may take, so that ten times the trials cost no more each."""


class Foresight:
    """Puts what waits in a line-up in order, by the trials that have ended and the epochs of those that run.

    Args:
        store: has the trials that have ended.
        plan: what those of the line-up are part of.
        capacity: what they are run on.
        lineup: what is put in order.
        tracker: knows what runs, and is told how long all of it is going to take.
    """

    def __init__(
        self, store: Store, plan: Plan, capacity: Capacity, lineup: Lineup, tracker: Tracker
    ) -> None:
        self._store, self._plan, self._capacity = store, plan, capacity
        self._lineup, self._tracker = lineup, tracker
        self._next = 0.0

    def look(self) -> None:
        """Do so, unless that was done a moment ago."""
        started = time.monotonic()
        if started < self._next:
            return
        turns = self._lineup.waiting
        again = frozenset(turn.trial.trial_id for turn in turns if turn.retry)
        with contextlib.suppress(StoreError):  # whoever needs what cannot be read will say so
            expected = forecast_from(
                self._store,
                replace(self._plan, again=again, shared={}),
                [turn.trial for turn in turns],
                self._capacity,
                self._tracker.running,
            )
            self._lineup.order(expected.trials)
            self._tracker.expect(expected.makespan_seconds)
        ended = time.monotonic()
        self._next = ended + max(_EVERY_SECONDS, (ended - started) / _SHARE)
