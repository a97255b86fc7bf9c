"""The trials that a launch has yet to start, in an order that may change until they do.

The launch fills the queue, puts back trials to retry, and reorders what waits. An executor takes the
next trial when it has room. The two may run in different threads.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from gridrun.sweep.retries import Retry
from gridrun.trial import Trial

_LOOK_SECONDS = 1.0  # how often to check whether other launches have released trials


@dataclass(frozen=True, slots=True)
class QueuedTrial:
    """A trial to start."""

    trial: Trial
    retry: Retry | None = None
    """The end that this attempt replaces; None for the first attempt."""
    parent: str | None = None
    """Id of the trial whose state it starts from; None: it starts anew."""


class TrialQueue:
    """A queue of trials.

    A trial is waiting, taken, or held by another launch (not `is_free`). A taken trial that is put back
    cannot be taken again before `task_done`.
    """

    def __init__(
        self, waiting: Iterable[QueuedTrial], is_free: Callable[[Trial], bool] = lambda trial: True
    ) -> None:
        self._waiting = list(waiting)
        self._held: list[QueuedTrial] = []
        self._seen_free: set[str] = set()  # ids of held trials that were free at the last check
        self._taken: dict[str, QueuedTrial] = {}
        self._is_free = is_free
        self._is_closed = False
        self._next_look = -math.inf
        self._changed = threading.Condition()

    # --- for the executor ------------------------------------------------------------------------

    def take(self, fits: Callable[[QueuedTrial], bool] = lambda queued: True) -> QueuedTrial | None:
        """Take the next trial that fits. Return None if there is none at the moment."""
        with self._changed:
            if self._is_closed:
                return None
            self._look()
            place = 0
            while place < len(self._waiting):
                queued = self._waiting[place]
                if queued.trial.trial_id in self._taken or not fits(queued):
                    place += 1
                    continue
                del self._waiting[place]
                if self._is_free(queued.trial):
                    self._taken[queued.trial.trial_id] = queued
                    return queued
                self._held.append(queued)
            return None

    def task_done(self, trial: Trial) -> None:
        """Say that a taken trial has ended. Call it after the launch has handled that end."""
        with self._changed:
            self._taken.pop(trial.trial_id, None)
            self._changed.notify_all()

    def is_over(self, fits: Callable[[QueuedTrial], bool] = lambda queued: True) -> bool:
        """Return whether nothing that fits is waiting, and no taken trial can come back."""
        with self._changed:
            return self._is_closed or not (self._taken or any(map(fits, self._waiting)))

    def wait(self, seconds: float) -> None:
        """Wait until a taken trial is done or the queue is closed, at most `seconds`."""
        with self._changed:
            self._changed.wait(seconds)

    def close(self) -> None:
        """Hand out no more trials."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    # --- for the launch --------------------------------------------------------------------------

    @property
    def waiting(self) -> tuple[QueuedTrial, ...]:
        """Trials that can be taken, in order."""
        with self._changed:
            return tuple(self._waiting)

    @property
    def left(self) -> tuple[QueuedTrial, ...]:
        """All trials in the queue: waiting, held by other launches, or taken."""
        with self._changed:
            return (*self._waiting, *self._held, *self._taken.values())

    def is_held_up(self) -> bool:
        """Return whether other launches hold all that is left."""
        with self._changed:
            self._look()
            return not any(self._is_free(queued.trial) for queued in self._waiting)

    def add(self, queued: QueuedTrial) -> None:
        """Queue one more trial, behind all others."""
        with self._changed:
            self._waiting.append(queued)
            self._changed.notify_all()

    def put_back(self, trial: Trial, retry: Retry | None = None) -> None:
        """Queue a taken trial again, behind all others."""
        with self._changed:
            self._waiting.append(replace(self._taken[trial.trial_id], retry=retry))

    def put_off(self, trial: Trial) -> None:
        """Queue a taken trial again as soon as the launch that holds it releases it."""
        with self._changed:
            self._held.append(self._taken[trial.trial_id])

    def drop(self, trial: Trial) -> None:
        """Remove a trial that another launch has finished."""
        with self._changed:
            self._waiting = [queued for queued in self._waiting if queued.trial != trial]
            self._held = [queued for queued in self._held if queued.trial != trial]

    def order(self, trials: Iterable[Trial]) -> None:
        """Put what waits into the order of `trials`; trials that are not among them come last."""
        places = {trial.trial_id: place for place, trial in enumerate(trials)}
        with self._changed:
            self._waiting.sort(key=lambda queued: places.get(queued.trial.trial_id, len(places)))

    def _look(self) -> None:
        """Move held trials that are free again to the front, at most once in `_LOOK_SECONDS`.

        A trial must be seen free twice, one check apart: a launch whose worker was killed writes the
        failure a moment later, and only then does the attempt count.
        """
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        free = {queued.trial.trial_id for queued in self._held if self._is_free(queued.trial)}
        released = free & self._seen_free
        self._waiting[:0] = [queued for queued in self._held if queued.trial.trial_id in released]
        self._held = [queued for queued in self._held if queued.trial.trial_id not in released]
        self._seen_free = free - released
