"""The results directory: the only place that says what has been trained.

    results/trials.parquet            one row for each ended trial
    results/epochs.parquet            one row for each epoch of those trials
    results/checkpoints/ID.pt         weights of done trials, if they are to be kept
    results/forgotten/ID.TIME.json    records that were taken out (`Store.forget`)
    results/searches/ID.parquet       who goes on from whom in a search
    results/.work/ended/ID.json       ended trials that are not in the Parquet files yet
    results/.work/checkpoints/ID.pt   running trials, and what others will go on from; ID.pt.epoch says how
                                      far they are
    results/.work/anew/ID             forgotten trials whose checkpoints may have copies elsewhere
    results/.work/asked/NAME.*        ids of trials that launches of a grid have asked for
    results/.work/leases/             who trains which trial, and who writes the Parquet files
    results/.work/launches/ID.json    what a running launch does

`Store` owns these paths. Any number of processes, on any number of machines, may use a store at once, and
any of them may be killed at any time: a trial that was added is there once, and whole.

A record is on disk in `ended/` before anybody is told that its trial has ended. Compaction moves it into
the Parquet files later. This room must not know grids, torch, Ray or the terminal.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from gridrun.errors import StoreError
from gridrun.store import lineage, parquet
from gridrun.store.compaction import Compaction
from gridrun.store.ends import END_COLUMNS, End, StoredEnds, end_of, later, newer_records
from gridrun.store.forgotten import Forgotten
from gridrun.store.launches import Launches, RequestedTrials
from gridrun.store.leases import Claim, Leases
from gridrun.store.lineage import LineageRow
from gridrun.store.notes import Notes
from gridrun.store.pending import PendingRecords, checked_id, json_files
from gridrun.store.records import EPOCH_TYPES, TRIAL_TYPES, Record, Status, epoch_of
from trainer import files

__all__ = ["End", "Store", "TrialStore", "unwritable"]


class TrialStore(Protocol):
    """The calls that training one trial makes, to a `Store` or to a `RemoteStore`."""

    def lock(self, name: str) -> contextlib.AbstractContextManager[Claim | None]: ...
    def ended(self, trial_id: str, but_not_at: str | None = None) -> Status | None: ...
    def add(self, record: Record) -> None: ...
    def checkpoint(self, trial_id: str) -> Path: ...
    def drop_checkpoint(self, trial_id: str) -> None: ...
    def note_epoch(self, trial_id: str, epoch: int) -> None: ...
    def weights_path(self, trial_id: str) -> Path: ...
    def drop_weights(self, trial_id: str) -> None: ...


class Store:
    """One results directory."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()
        self.trials_path = self.root / "trials.parquet"
        self.epochs_path = self.root / "epochs.parquet"
        self._weights = self.root / "checkpoints"
        self._searches = self.root / "searches"
        self._work = self.root / ".work"
        self._checkpoints = self._work / "checkpoints"
        self._pending = PendingRecords(self._work / "ended")
        self._leases = Leases(self._work / "leases")
        self.launches = Launches(self._work / "launches")
        self.requested = RequestedTrials(self._work / "asked")
        self._anew = self._work / "anew"
        self._forgotten = Forgotten(self.root / "forgotten")
        self.notes = Notes(self.root / "notes")
        self._stored_ends = StoredEnds(self.trials_path)
        self._compaction = Compaction(
            self.trials_path, self.epochs_path, self._pending, self._stored_ends, self._leases
        )

    def create(self) -> None:
        """Make the directories that are not there yet, and check that the Parquet files can be read.

        Raises:
            StoreError: a directory cannot be made or written to, or a file is damaged or not ours.
        """
        with self._writing():
            for name in ("ended", "launches", "checkpoints"):
                (self._work / name).mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self._work / "locks", ignore_errors=True)  # of older versions
            readme = "Working files of gridrun. Leave them while a launch runs.\n"
            files.write_in_place(self._work / "README", readme)  # a part of it would do
            if not os.access(self._work, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self._work))
        for path in (self.trials_path, self.epochs_path):  # better now than after hours of training
            parquet.read(path)

    # --- reading -------------------------------------------------------------------------------

    def rows(
        self, trial_ids: Collection[str] | None = None, columns: Collection[str] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return the row of each ended trial, or of those named, by trial id; else as `records`."""
        newer, table = self._read(trial_ids, columns)
        stored = [] if table is None else table.to_pylist()
        return {row["trial_id"]: row for row in stored} | {r.trial_id: r.row() for r in newer}

    def records(
        self, trial_ids: Collection[str] | None = None, columns: Collection[str] | None = None
    ) -> dict[str, Record]:
        """Return the record of each ended trial, or of those named, by trial id, without its epochs.

        Args:
            trial_ids: the trials; None for all.
            columns: the columns to read, where the file has them. The others have their defaults. None
                for all.

        Raises:
            StoreError: a Parquet file is damaged or not ours.
        """
        newer, table = self._read(trial_ids, columns)
        stored = [] if table is None else Record.from_columns(table.to_pydict(), len(table))
        checked = (Record.from_row(record.row()) for record in newer)
        return {record.trial_id: record for record in (*stored, *checked)}

    def _read(
        self, trial_ids: Collection[str] | None, columns: Collection[str] | None
    ) -> tuple[list[Record], pa.Table | None]:
        """Return the records that are newer than the Parquet file, and what that says of the trials."""
        newer = self._newer(trial_ids)
        required = None if columns is None else END_COLUMNS
        return newer, parquet.read(self.trials_path, required, trial_ids, optional=columns or ())

    def _newer(self, trial_ids: Collection[str] | None = None) -> list[Record]:
        """Return the pending records that replace what the Parquet files have of their trials."""
        pending = self._pending.read(trial_ids)  # first: records only ever move into the Parquet files
        return newer_records(pending, self._stored_ends.read()) if pending else []

    def forgotten(self) -> list[Record]:
        """Return the records that were taken out and kept, the oldest first."""
        return self._forgotten.read()

    def forgotten_ids(self) -> set[str]:
        """Return the ids of the trials whose records were taken out and kept, perhaps to be trained anew."""
        return self._forgotten.ids()

    def has_forgotten(self, record: Record) -> bool:
        """Return whether this very record was taken out, and no other end of its trial."""
        return self._forgotten.has(record)

    def trials_table(self) -> pa.Table:
        """Return what `trials.parquet` would hold after compaction. Raises StoreError."""
        return self._table(self.trials_path, TRIAL_TYPES, lambda record: [record.row()])

    def epochs_table(self) -> pa.Table:
        """Return what `epochs.parquet` would hold after compaction. Raises StoreError."""
        return self._table(self.epochs_path, EPOCH_TYPES, Record.epoch_rows)

    def _table(
        self, path: Path, types: dict[str, type], rows_of: Callable[[Record], list[dict[str, Any]]]
    ) -> pa.Table:
        newer = self._newer()
        rows = [row for record in newer for row in rows_of(record)]
        return parquet.joined(parquet.read(path), rows, types, [record.trial_id for record in newer])

    def epochs(self, trial_ids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of the epochs of some trials, in order, by trial id. Raises StoreError.

        What an older version did not measure is None.
        """
        newer = self._newer(trial_ids)
        table = parquet.read(self.epochs_path, ("trial_id", "epoch"), trial_ids, optional=EPOCH_TYPES)
        found: dict[str, list[dict[str, Any]]] = {}
        for row in [] if table is None else table.to_pylist():
            found.setdefault(row["trial_id"], []).append(dict.fromkeys(EPOCH_TYPES) | row)
        return found | {record.trial_id: record.epoch_rows() for record in newer}

    def whole_records(self, trial_ids: Collection[str]) -> list[Record]:
        """Return the records of some trials, as far as they have ended, with epochs. Raises StoreError."""
        records = self.records(trial_ids)
        epochs = self.epochs(records)
        for record in records.values():
            rows = epochs.get(record.trial_id, ())
            record.epochs = tuple(map(epoch_of, rows))
        return list(records.values())

    def version(self) -> tuple[Any, ...]:
        """Return a value that changes with what the store holds, and with what its launches say."""
        work = [self._work / name for name in ("ended", "launches", "checkpoints")]
        found: list[Any] = []
        for path in (self.trials_path, self.epochs_path, *self._searches.glob("*.parquet"), *work):
            files.refresh_directory(path.parent)
            with contextlib.suppress(OSError):
                of_path = path.stat()
                found.append((path.name, of_path.st_ino, of_path.st_size, of_path.st_mtime_ns))
        launches = json_files(work[1])
        with contextlib.suppress(OSError):
            found += [(path.name, path.stat().st_mtime_ns) for path in launches]
        return (*found, len(launches))

    def statuses(self) -> dict[str, Status]:
        """Return the status of each ended trial, by trial id. Raises StoreError."""
        pending = self._pending.read()
        ends = self._stored_ends.read()
        stored = {trial_id: end.status for trial_id, end in ends.items()}
        return stored | {record.trial_id: record.status for record in newer_records(pending, ends)}

    def ended(self, trial_id: str, but_not_at: str | None = None) -> Status | None:
        """Return the status of a trial, None if it has not ended.

        `but_not_at` is the `ended_at` of the failure that is being retried. That end is ignored, unless its
        status is done.
        """
        end = self.end(trial_id)
        return end.status if end and (end.status == "done" or end.ended_at != but_not_at) else None

    def end(self, trial_id: str) -> End | None:
        """Return how a trial ended, None if it has not."""
        pending = self._pending.read([trial_id])
        end = self._stored_ends.read().get(trial_id)
        for record in pending:
            end = later(end, end_of(record))
        return end

    def find(self, start: str) -> str:
        """Return the id of the ended trial whose id begins with `start`. Raises StoreError."""
        found = sorted(trial_id for trial_id in self.statuses() if trial_id.startswith(start))
        if len(found) == 1:
            return found[0]
        if not found:
            raise StoreError(
                f"{self.root}: no ended trial has an id that begins with {start!r}; `gridrun why TABLE "
                "ROW` names the trials of a row, --results another store"
            )
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise StoreError(f"{start!r} is the beginning of several ids: {shown}")

    # --- writing -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Refuse directories that are links, and turn errors of the disk into StoreError."""
        try:
            own = (self._weights, self._searches, self._work)
            for path in (*own, *(self._work.iterdir() if self._work.is_dir() else ())):
                if path.is_symlink():
                    raise StoreError(
                        f"{path}: is a link to {path.readlink()}; what belongs to a store lies in it. "
                        "Link it whole instead."
                    )
            yield
        except OSError as error:
            raise unwritable(self.root, error) from error

    def add(self, record: Record) -> None:
        """Write the record of an ended trial durably. Does nothing if what exists counts (`ends.later`).

        If another launch has added an attempt meanwhile, that is counted in `attempts`. Raises StoreError.
        """
        with contextlib.suppress(StoreError):  # another file's damage must not cost this result
            if old := self.end(record.trial_id):
                if old.status == "done" or (old.status == "diverged" and later(old, end_of(record)) is old):
                    return
                before = old.attempts or 1
                if record.attempts and record.attempts <= before and record.ended_at != old.ended_at:
                    record = replace(record, attempts=before + 1)
        with self._writing():
            self._pending.add(record)

    def insert(self, records: Collection[Record]) -> list[str]:
        """Add records of trials that have no result here; return the ids of those added. Raises StoreError.

        For many at once: they are all there afterwards, or none.
        """
        with self._writing():
            return self._compaction.insert(records)

    def compact(self, *, now: bool = False) -> None:
        """Move pending records into the Parquet files, unless the last time was a moment ago.

        `now` does it in any case, and waits for another process that does it. Raises StoreError.
        """
        with self._writing():
            self._compaction.run(now=now)

    def forget(self, trial_ids: Collection[str]) -> list[Path]:
        """Take ended trials out, so that they can be trained anew; return where their records are kept.

        Kept weights lie beside these. Ids of trials that have not ended are left out.

        Raises:
            StoreError: a trial is being trained, or the store cannot be written. Nothing is taken out then.
        """
        kept: list[Path] = []
        with self.locks(trial_ids) as locked:
            if busy := set(trial_ids) - locked:
                raise StoreError(f"trial {min(busy)} is being trained; wait for its end, or stop it")

            def keep() -> None:
                records = self.whole_records(trial_ids)
                for record in records:  # before anything is taken out; one too many costs a copy
                    files.touch(self._anew / record.trial_id)
                kept[:] = self._forgotten.add(records)
                for path, record in zip(kept, records, strict=True):
                    with contextlib.suppress(FileNotFoundError):
                        self.weights_path(record.trial_id).rename(path.with_suffix(".pt"))
                    self.drop_checkpoint(record.trial_id)

            with self._writing():
                files.make_directory(self._anew)
                self._compaction.take_out(trial_ids, keep)
        return kept

    def drop_old_copies(self, trial_ids: Collection[str], remove: Callable[[str], None]) -> None:
        """Call `remove` for each of these trials that was forgotten and not called it for since.

        Its checkpoint may also lie elsewhere, where only a launch knows; nothing may go on from there. Raises
        OSError, StoreError.
        """
        with contextlib.suppress(FileNotFoundError):
            for name in sorted({path.name for path in self._anew.iterdir()} & set(trial_ids)):
                remove(name)
                with self._writing():
                    (self._anew / name).unlink(missing_ok=True)

    def compact_leftovers(self) -> None:
        """Compact what a killed launch left. A store that cannot be written stays as it is."""
        if self._pending.read():
            with contextlib.suppress(StoreError):
                self.create()
                self.compact(now=True)

    def tidy(self, until: Callable[[], bool] = lambda: False) -> None:
        """Bring the Parquet files to their least size, unless another launch is running.

        This takes some seconds, and others may read meanwhile (see `parquet.py`). After each step it ends
        early if `until` returns true.
        """
        if not until() and not self.launches.running():  # else the launch that ends last does it
            self._compaction.tidy(until)

    # --- running trials --------------------------------------------------------------------------

    def checkpoint(self, trial_id: str) -> Path:
        """Return where a running trial keeps its checkpoint."""
        return self._checkpoints / f"{checked_id(trial_id)}.pt"

    def drop_checkpoint(self, trial_id: str) -> None:
        """Remove a trial's checkpoint, and what a killed save left beside it."""
        _remove(self.checkpoint(trial_id))

    def note_epoch(self, trial_id: str, epoch: int) -> None:
        """Note the last epoch that a running trial has finished, for estimates."""
        with contextlib.suppress(StoreError), self._writing():
            files.write_in_place(self.checkpoint(trial_id).with_suffix(".pt.epoch"), str(epoch))

    def checkpointed(self) -> dict[str, int]:
        """Return the last noted epoch of each trial that has a checkpoint, by trial id."""
        found = {}
        for path in self._checkpoints.glob("*.pt.epoch") if self._checkpoints.is_dir() else ():
            with contextlib.suppress(OSError, ValueError):
                if path.with_suffix("").exists():
                    found[path.name.partition(".")[0]] = int(files.read_text(path))
        return found

    def weights_path(self, trial_id: str) -> Path:
        """Return where a done trial keeps its weights, if it keeps any."""
        return self._weights / f"{checked_id(trial_id)}.pt"

    def put_weights(self, trial_id: str, content: bytes) -> None:
        """Keep a trial's weights that come from elsewhere. Raises OSError."""
        path = self.weights_path(trial_id)
        files.make_directory(path.parent)
        with files.replacing(path) as partial:
            partial.write_bytes(content)

    def drop_weights(self, trial_id: str) -> None:
        """Remove a trial's weights, and what a killed save left beside them."""
        _remove(self.weights_path(trial_id))

    # --- searches --------------------------------------------------------------------------------

    def lineage(self, search_id: str) -> list[LineageRow]:
        """Return the lineage of a search, by round and member; empty if it has none. Raises StoreError."""
        return lineage.read(self._lineage_path(search_id))

    def lineages(self) -> dict[str, list[LineageRow]]:
        """Return the lineage of each search, by search id. Raises StoreError."""
        return {path.stem: lineage.read(path) for path in sorted(self._searches.glob("*.parquet"))}

    def write_lineage(self, search_id: str, rows: Sequence[LineageRow]) -> None:
        """Replace the lineage of a search. Raises StoreError."""
        with self._writing():
            lineage.write(self._lineage_path(search_id), rows)

    def _lineage_path(self, search_id: str) -> Path:
        return self._searches / f"{checked_id(search_id)}.parquet"

    # --- locks -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[Claim | None]:
        """Hold a lock within a `with`; yield None if another process holds it. Raises StoreError."""
        with contextlib.ExitStack() as stack:
            with self._writing():
                claim = stack.enter_context(self._leases.hold(name))
            yield claim

    @contextlib.contextmanager
    def locks(self, names: Collection[str]) -> Iterator[set[str]]:
        """Hold those of many locks within a `with` that no other process holds; yield their names.

        Raises StoreError.
        """
        with contextlib.ExitStack() as stack:
            with self._writing():
                held = stack.enter_context(self._leases.hold_all(names))
            yield held

    def is_locked(self, name: str) -> bool:
        """Return whether a live process holds a lock; remove what dead ones left. Raises StoreError."""
        with self._writing():
            return self._leases.is_held(name)

    def has_lock(self, name: str) -> bool:
        """Return whether there is a lock of that name, be its holder alive or dead, that can be seen here."""
        try:
            return name in self._leases.names()
        except OSError:  # the directory is another user's
            return False

    def clear_locks(self, start: str = "") -> None:
        """Remove what dead processes left of the locks whose names begin with `start`."""
        with contextlib.suppress(OSError):  # the next process to take such a lock removes it
            for name in self._leases.names():
                if name.startswith(start):
                    self._leases.is_held(name)


def _remove(path: Path) -> None:
    """Remove a file, and all files beside it that belong to it by name.

    The file itself goes last: while it is there, a removal that was killed is still to be done.
    """
    with contextlib.suppress(FileNotFoundError):
        found = [file for file in path.parent.iterdir() if file.name.removeprefix(".").startswith(path.name)]
        for file in sorted(found, key=lambda file: file.name == path.name):
            file.unlink(missing_ok=True)


def unwritable(root: Path, error: OSError) -> StoreError:
    """Return the error to raise when a store cannot be written."""
    partial = str(error.filename).endswith(".partial")
    place = f": {Path(error.filename).parent if partial else error.filename}" if error.filename else ""
    if error.filename and Path(error.filename).is_symlink():
        place += f", a link to {Path(error.filename).readlink()}"
    return StoreError(f"{root}: cannot be written to ({error.strerror or error}{place})")
