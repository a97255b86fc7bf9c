"""What a sweep asks of whatever runs its trials."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from gridrun.lineup import Lineup
from gridrun.records import Failure
from gridrun.trial import Trial
from gridrun.worker import Outcome, Setup
from trainer import TrainConfig
from trainer.metrics import Epoch


@dataclass(frozen=True, slots=True)
class Started:
    """A worker has turned to a trial."""

    trial: Trial


@dataclass(frozen=True, slots=True)
class Progress:
    """A trial has finished an epoch; not every epoch is told of."""

    trial: Trial
    epoch: Epoch
    place: str = ""
    """Where it is trained, such as `GPU 0`; empty where there is but one place."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker's turn at a trial is over; a record that it made is in the store already."""

    trial: Trial
    outcome: Outcome
    epoch: Epoch | None = None
    """The last one of this turn, None if there was none."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A trial's worker died, or could not start."""

    trial: Trial
    failure: Failure
    reason: str


@dataclass(frozen=True, slots=True)
class Warned:
    """Something beside the trials went wrong; they go on."""

    text: str


@dataclass(frozen=True, slots=True)
class Fitted:
    """So many trials of a config are to share a GPU, as was just measured."""

    config: TrainConfig
    trials_per_gpu: int


Event = Started | Progress | Ended | Lost | Warned | Fitted


class Executor(abc.ABC):
    """Runs trials. Use it as a context manager; what it holds is released at the end."""

    @property
    @abc.abstractmethod
    def slots(self) -> int:
        """How many trials run side by side."""

    @abc.abstractmethod
    def run(self, lineup: Lineup, setup: Setup, on_event: Callable[[Event], None]) -> None:
        """Take turns from `lineup` as there is room, and return when it is over.

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
