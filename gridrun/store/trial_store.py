"""What a worker needs of a results directory, be it a local one or one on another machine."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from gridrun.store.leases import Claim
from gridrun.store.records import Record, Status


class TrialStore(Protocol):
    """The calls that training one trial makes: `Store` has them, and so has `RemoteStore`."""

    def lock(self, name: str) -> AbstractContextManager[Claim | None]:
        """Hold the lock called `name`, usually a trial's id; yield None if another process holds it."""

    def ended(self, trial_id: str, but_not_at: str | None = None) -> Status | None:
        """Return the status of a trial that has ended, unless it ended badly at exactly `but_not_at`."""

    def add(self, record: Record) -> None:
        """Keep the record of a trial; when this returns it is on disk."""

    def checkpoint(self, trial_id: str) -> Path:
        """Return where a running trial saves its checkpoint."""

    def drop_checkpoint(self, trial_id: str) -> None:
        """Remove a trial's checkpoint."""

    def note_epoch(self, trial_id: str, epoch: int) -> None:
        """Note which epoch a running trial has finished."""

    def weights_path(self, trial_id: str) -> Path:
        """Return where a finished trial keeps its weights."""

    def drop_weights(self, trial_id: str) -> None:
        """Remove a trial's weights."""
