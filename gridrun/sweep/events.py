"""What an executor reports while it runs trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gridrun.store.records import Failure
from gridrun.trial import Trial
from trainer import TrainConfig
from trainer.metrics import Epoch

Outcome = Literal["done", "diverged", "failed", "busy", "interrupted"]
"""How a worker's attempt at a trial ended. busy: another process is training it.
interrupted: it was told to stop and kept its checkpoint."""


@dataclass(frozen=True, slots=True)
class Started:
    """A worker has started a trial."""

    trial: Trial


@dataclass(frozen=True, slots=True)
class Progress:
    """A trial has finished an epoch. Executors may leave out epochs."""

    trial: Trial
    epoch: Epoch
    place: str = ""
    """Where it is trained, such as `GPU 0`; empty if there is only one place."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """A trial is in the middle of an epoch. Told about once a second."""

    trial: Trial
    epoch: int
    """The last finished epoch."""
    part: float
    """How much is done of the next one, 0..1."""
    place: str = ""
    """As for `Progress`."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker is through with a trial; its record, if any, is in the store already."""

    trial: Trial
    outcome: Outcome
    epoch: Epoch | None = None
    """The last epoch of this attempt, None if it finished none."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A trial's worker died or could not start, so that nobody has written a record."""

    trial: Trial
    failure: Failure
    reason: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Other processes hold every trial that is left: other launches, or workers that were just killed."""

    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True)
class Warned:
    """Something went wrong that stops no trial."""

    text: str


@dataclass(frozen=True, slots=True)
class PackingChosen:
    """A measurement has shown how many trials of a config share a GPU."""

    config: TrainConfig
    trials_per_gpu: int


@dataclass(frozen=True, slots=True)
class ThreadsChosen:
    """A measurement has shown how many threads trials of a config train fastest with, all together."""

    config: TrainConfig
    threads: int


Event = Started | Progress | Stepped | Ended | Lost | Waiting | Warned | PackingChosen | ThreadsChosen
