"""What a sweep asks of whatever runs its trials."""

from __future__ import annotations

import abc
from collections.abc import Callable
from types import TracebackType

from gridrun.sweep.events import Event, Setup
from gridrun.sweep.queue import TrialQueue


class Executor(abc.ABC):
    """Runs trials. Use it as a context manager; what it holds is released at the end."""

    @abc.abstractmethod
    def run(self, trial_queue: TrialQueue, setup: Setup, on_event: Callable[[Event], None]) -> None:
        """Take turns from `trial_queue` as there is room, and return when it is over.

        `on_event` is called in the caller's thread. For every turn it gets exactly one `Ended`
        or `Lost`, last, and may line the trial up again; then the turn is settled. Once
        `setup.is_closed`, turns not yet started may get none.
        """

    def close(self) -> None:  # noqa: B027 - not every executor holds something
        """Release what the executor holds."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
