"""The interface between a launch and whatever runs its trials."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable

from gridrun.sweep.events import Event
from gridrun.sweep.queue import TrialQueue
from gridrun.sweep.worker import Setup


class Executor(contextlib.AbstractContextManager["Executor"], abc.ABC):
    """Runs trials. Use it as a context manager, which releases what it holds at the end."""

    @abc.abstractmethod
    def run(self, trial_queue: TrialQueue, setup: Setup, on_event: Callable[[Event], None]) -> None:
        """Take trials from `trial_queue` while there is room, and return when the queue is over.

        Calls `on_event` in the caller's thread. The last event of each trial taken is exactly one `Ended`
        or `Lost`. While handling it, the caller may put the trial back into the queue; only then does the
        executor call `task_done`. Once `setup.is_closed`, trials that have not started may get no event.
        """

    def close(self) -> None:
        """Release what the executor holds."""

    def __exit__(self, *error: object) -> None:
        self.close()
