"""Compaction: pending records move into the Parquet files.

Epochs are added first, then trials, then the small files are removed. A kill in between leaves a record in
both places; reading allows for that, and the next compaction replaces its rows.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from gridrun.errors import StoreError
from gridrun.store import parquet
from gridrun.store.ends import StoredEnds, end_of, newer_records
from gridrun.store.leases import Claim, Leases
from gridrun.store.pending import PendingRecords, json_files
from gridrun.store.records import EPOCH_TYPES, TRIAL_TYPES, Record
from trainer import files

T = TypeVar("T")

_SHARE = 0.05
"""The fraction of a sweep's time that compaction may take."""
_EVERY_SECONDS = 2.0
_TIDY_STEPS = 5
_LEASE = "compact"


@dataclass
class Compaction:
    """Moves pending records into the two Parquet files, one process at a time."""

    trials: Path
    epochs: Path
    pending: PendingRecords
    stored: StoredEnds
    leases: Leases
    _next_at: float = -math.inf

    def run(self, *, now: bool) -> None:
        """Compact, if the last time was long enough ago or `now` says so. Raises OSError, StoreError.

        The longer a compaction takes, the longer the wait for the next: it uses at most `_SHARE` of the time.
        """
        if not now and time.monotonic() < self._next_at:
            return
        started = time.monotonic()
        while not self._once(wait=now) and now:
            pass
        ended = time.monotonic()
        self._next_at = ended + max(_EVERY_SECONDS, (ended - started) / _SHARE)

    def insert(self, records: Collection[Record]) -> list[str]:
        """Add many records at once, of trials without a result; return the ids of those added.

        Those of one call are all there afterwards, or none. Raises OSError, StoreError.
        """

        def add(claim: Claim) -> list[str]:
            # A launch may have added more since.
            ends = self.stored.read()
            ends = ends | {r.trial_id: end_of(r) for r in newer_records(self.pending.read(), ends)}
            new = [
                replace(r, attempts=(ends[r.trial_id].attempts or 1) + r.attempts)
                if r.trial_id in ends
                else r
                for r in records
                if r.trial_id not in ends or ends[r.trial_id].status == "failed"
            ]
            with self._partials(claim) as (trials, epochs):
                self._append(new, trials, epochs)
            return [record.trial_id for record in new]

        # A failure that waited there until later would count as added after the result.
        return self._after_moving(add)

    def take_out(self, trial_ids: Collection[str], keep: Callable[[], None]) -> None:
        """Remove some trials from the Parquet files. Raises OSError, StoreError.

        `keep` is called before that, when all records are in these files and nobody else changes them. Nobody
        may train these trials meanwhile.
        """

        def remove(claim: Claim) -> None:
            keep()
            with self._partials(claim) as (trials, epochs):
                parquet.append(self.trials, [], TRIAL_TYPES, trial_ids, trials)
                parquet.append(self.epochs, [], EPOCH_TYPES, trial_ids, epochs)

        self._after_moving(remove)

    def _after_moving(self, act: Callable[[Claim], T]) -> T:
        """Compact, and call `act` with the lease held. Waits for another process that compacts."""
        while True:
            with self.leases.hold(_LEASE, wait=True) as claim:
                assert claim
                try:
                    self.pending.restore_taken()
                    with self._partials(claim) as (trials, epochs):
                        self._move(trials, epochs)
                    return act(claim)
                except OSError:
                    if claim.held():
                        raise

    def tidy(self, until: Callable[[], bool]) -> None:
        """Bring the Parquet files to their least size, step by step, until `until` returns true.

        They stay as they are if the disk has no room for a second version, or another process writes.
        """
        with contextlib.suppress(OSError, StoreError):
            for _ in range(_TIDY_STEPS):
                with self.leases.hold(_LEASE) as claim:
                    if claim is None:
                        return
                    with self._partials(claim) as (trials, epochs):
                        steps = [parquet.tidy(self.trials, trials), parquet.tidy(self.epochs, epochs)]
                if not any(steps) or until():
                    return
                time.sleep(parquet.SETTLED_SECONDS)

    def _once(self, *, wait: bool) -> bool:
        """Compact; return False if another process does so already, or has taken over meanwhile."""
        with self.leases.hold(_LEASE, wait=wait) as claim:
            if claim is None:
                return False
            try:
                self.pending.restore_taken()
                if json_files(self.pending.directory):
                    with self._partials(claim) as (trials, epochs):
                        self._move(trials, epochs)
            except parquet.UnstorableError as error:
                self._set_aside(error)
            except OSError:
                if claim.held():
                    raise
                return False
            return True

    def _set_aside(self, cause: StoreError) -> None:
        """Rename the records that the Parquet files cannot hold; the others can go on. Raises StoreError."""
        refused = []
        for record in self.pending.read():
            try:
                parquet.check_storable([record.row()], TRIAL_TYPES, self.trials)
                parquet.check_storable(record.epoch_rows(), EPOCH_TYPES, self.epochs)
            except parquet.UnstorableError:
                refused.append(self.pending.set_aside(record))
        if not refused:
            raise cause
        names = ", ".join(map(str, refused))
        raise StoreError(f"{cause}. Set aside as {names}; without it the trial has not ended.")

    def _move(self, trials_partial: Path, epochs_partial: Path) -> None:
        pending = self.pending.read()
        self._append(newer_records(pending, self.stored.read()), trials_partial, epochs_partial)
        self.pending.drop(pending)

    def _append(self, newer: Collection[Record], trials_partial: Path, epochs_partial: Path) -> None:
        """Add records to the Parquet files, in place of what these have of their trials."""
        if not newer:
            return
        replaced = [record.trial_id for record in newer]
        epochs = [row for record in newer for row in record.epoch_rows()]
        rows = [record.row() for record in newer]
        parquet.append(self.epochs, epochs, EPOCH_TYPES, replaced, epochs_partial)
        parquet.append(self.trials, rows, TRIAL_TYPES, replaced, trials_partial)

    @contextlib.contextmanager
    def _partials(self, claim: Claim) -> Iterator[list[Path]]:
        """Yield a temporary file for the next version of each Parquet file, and remove those of others.

        This keeps a paused process from undoing what another has compacted since. Temporary files are made
        before the old version is read. If the other process took over before the `held` check, the check
        fails. If it took over later, it has deleted our temporary files, so our commit fails. Both raise
        OSError.
        """
        with contextlib.ExitStack() as stack:
            tables = self.trials, self.epochs
            own = [stack.enter_context(files.temporary_beside(path)) for path in tables]
            if not claim.held():
                raise OSError("another process has taken over")
            for path in tables:
                for partial in path.parent.glob(f".{path.name}-*.partial"):
                    if partial not in own:
                        partial.unlink(missing_ok=True)
            yield own
