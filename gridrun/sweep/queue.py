"""What a launch has yet to start: handed out one by one, in an order that may change until then.

The launch lines trials up, puts back those that are to be tried again and reorders what waits; an
executor takes the next one when it has room. The two may be different threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gridrun.sweep.events import Retry
from gridrun.trial import Trial

_LOOK_SECONDS = 1.0
"""How often to look whether other launches have let go of trials."""


@dataclass(frozen=True, slots=True)
class QueuedTrial:
    """A trial that is to be started."""

    trial: Trial
    retry: Retry | None = None
    """The end that it is to replace, where it has been tried before."""


def _any(turn: QueuedTrial) -> bool:
    return True


class TrialQueue:
    """Trials that wait for their turn.

    Args:
        turns: those, the first to start first.
        is_free: whether no other launch is training a trial.
    """

    def __init__(
        self, turns: Iterable[QueuedTrial], is_free: Callable[[Trial], bool] = lambda trial: True
    ) -> None:
        self._waiting = list(turns)
        self._held: list[QueuedTrial] = []  # by other launches
        self._freed: set[str] = set()  # of those, when one looked last
        self._out: dict[str, QueuedTrial] = {}
        self._is_free = is_free
        self._is_closed = False
        self._look_at = 0.0
        self._changed = threading.Condition()

    # --- for the executor ------------------------------------------------------------------------

    def take(self, fits: Callable[[QueuedTrial], bool] = _any) -> QueuedTrial | None:
        """Return the next turn that fits, None if there is none just now. It is out until it is settled."""
        with self._changed:
            if self._is_closed:
                return None
            self._look()
            place = 0
            while place < len(self._waiting):
                turn = self._waiting[place]
                if turn.trial.trial_id in self._out or not fits(turn):  # its last turn is not settled yet
                    place += 1
                    continue
                del self._waiting[place]
                if self._is_free(turn.trial):
                    self._out[turn.trial.trial_id] = turn
                    return turn
                self._held.append(turn)
            return None

    def task_done(self, trial: Trial) -> None:
        """Say that a turn is over, after the launch has been told."""
        with self._changed:
            self._out.pop(trial.trial_id, None)
            self._changed.notify_all()

    def is_over(self, fits: Callable[[QueuedTrial], bool] = _any) -> bool:
        """Return whether nothing that fits waits, and nothing is out that might come back."""
        with self._changed:
            return self._is_closed or not (self._out or any(map(fits, self._waiting)))

    def wait(self, seconds: float) -> None:
        """Wait until a turn is settled, at most so long."""
        with self._changed:
            self._changed.wait(seconds)

    def close(self) -> None:
        """Hand out no more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    # --- for the launch --------------------------------------------------------------------------

    @property
    def waiting(self) -> tuple[QueuedTrial, ...]:
        """What could be taken, in order."""
        with self._changed:
            return tuple(self._waiting)

    @property
    def left(self) -> tuple[QueuedTrial, ...]:
        """All that is not over: waiting, held by other launches, or out."""
        with self._changed:
            return (*self._waiting, *self._held, *self._out.values())

    def is_held_up(self) -> bool:
        """Return whether other launches have all that is left."""
        with self._changed:
            self._look()
            return not any(self._is_free(turn.trial) for turn in self._waiting)

    def put_back(self, trial: Trial, retry: Retry | None = None) -> None:
        """Have a trial that is out wait once more, behind all others."""
        with self._changed:
            self._waiting.append(QueuedTrial(trial, retry))

    def put_off(self, trial: Trial) -> None:
        """Have a trial that is out wait until the other launch which has it lets go."""
        with self._changed:
            self._held.append(self._out[trial.trial_id])

    def drop(self, trial: Trial) -> None:
        """Have a trial wait no longer, because another launch is through with it."""
        with self._changed:
            self._waiting = [turn for turn in self._waiting if turn.trial != trial]
            self._held = [turn for turn in self._held if turn.trial != trial]

    def order(self, trials: Iterable[Trial]) -> None:
        """Put what waits into the order of `trials`; what is not among them comes last."""
        places = {trial.trial_id: place for place, trial in enumerate(trials)}
        with self._changed:
            self._waiting.sort(key=lambda turn: places.get(turn.trial.trial_id, len(places)))

    def _look(self) -> None:
        """Have trials wait again that other launches have let go of, unless one has looked a moment ago.

        Twice in a row is a trial to be found free: a launch whose worker was killed writes that down a
        moment after, and only then does the attempt count.
        """
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_SECONDS
        free = {turn.trial.trial_id for turn in self._held if self._is_free(turn.trial)}
        back = free & self._freed
        self._waiting[:0] = [turn for turn in self._held if turn.trial.trial_id in back]
        self._held = [turn for turn in self._held if turn.trial.trial_id not in back]
        self._freed = free - back
