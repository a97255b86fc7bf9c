"""What an executor reports while it runs trials, and what every worker is given."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from gridrun.store.leases import kernel
from gridrun.store.records import Failure, Provenance
from gridrun.trial import Trial
from trainer import Runtime, TrainConfig, files
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
class PackingChosen:
    """So many trials of a config are to share a GPU, as was just measured."""

    config: TrainConfig
    trials_per_gpu: int


Event = Started | Progress | Ended | Lost | Warned | PackingChosen


Outcome = Literal["done", "diverged", "failed", "busy", "interrupted"]
"""How a worker's turn at a trial ended. busy: another process is training it.
interrupted: asked to stop; its checkpoint is kept."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The end of a trial that another try is to replace."""

    ended_at: str
    attempts: int
    """How often it has been started."""
    gpu_share: float | None = None
    """What part of a GPU it is to have, where that is no longer the launch's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What all trials of a launch have in common; travels to the workers."""

    results: Path
    runtime: Runtime
    code: Provenance
    stop_file: Path
    """While it exists, trials save their checkpoints and stop."""
    driver_pid: int = field(default_factory=os.getpid)
    """Of the launch."""
    driver_kernel: str = field(default_factory=kernel)
    """That the launch runs on; process ids of others mean nothing here."""
    checkpoints: str | None = None
    """Where checkpoints are copied to and looked for (`CheckpointCopies`), besides the results directory."""
    drain_file: Path | None = None
    """While it exists no trial starts; those that run go on."""

    @property
    def is_closed(self) -> bool:
        """Whether no trial may start."""
        return any(files.is_there(word) for word in (self.stop_file, self.drain_file) if word)


def now() -> str:
    """Return the time as records keep it: UTC, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
