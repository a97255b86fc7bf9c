"""The results directory: the one truth about what has been trained.

    results/trials.parquet            one row a trial that has ended
    results/epochs.parquet            one row an epoch of those
    results/checkpoints/ID.pt         weights of trials that are done, where they were asked for
    results/.work/ended/ID.json       ended trials not yet in the Parquet files
    results/.work/checkpoints/ID.pt   trials under way, and ID.pt.epoch: how far they are
    results/.work/asked/NAME.*        ids of trials that launches of a grid have asked for
    results/.work/leases/             held while a trial trains, or the Parquet files are rewritten
    results/.work/launches/ID.json    what a running launch is doing

A trial's record is written to `ended/` and on disk before anybody is told of it. Compaction moves
such records into the Parquet files: epochs first, then trials, then the small files go; a kill
in between leaves a record in both places, which reading and compacting again both allow for.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from gridrun.errors import StoreError
from gridrun.store import parquet
from gridrun.store.launch_state import LaunchState
from gridrun.store.leases import Claim, Leases
from gridrun.store.records import EPOCH_TYPES, TRIAL_TYPES, Failure, Record, Status
from trainer import files

Row = dict[str, Any]


class End(NamedTuple):
    """How a trial ended."""

    status: Status
    ended_at: str
    failure: Failure | None = None
    attempts: int | None = None
    gpu_share: float | None = None


_COMPACT_SHARE = 0.05
"""Part of a sweep's time that compaction may take."""
_COMPACT_EVERY_SECONDS = 2.0
_TIDY_STEPS = 5
_LAUNCH_SILENT_SECONDS = 15.0
"""A launch that has not written for so long is taken for dead."""
_WORD_KEPT_SECONDS = 2 * 24 * 3600.0
"""What a dead launch left of its word to stop is removed after so long."""
_END_COLUMNS = ["trial_id", "status", "ended_at"]
_EPOCH_KEY = {"trial_id", "epoch"}
_LATER_END_COLUMNS = [name for name in End._fields if name not in _END_COLUMNS]
"""Files of older versions lack them."""
_README = "Working files of gridrun. Leave them while a launch runs.\n"
_TRIAL_ID = re.compile(r"[0-9a-f]{16}")


class Store:
    """One results directory. Any number of processes may use it at once."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()
        self.trials_path = self.root / "trials.parquet"
        self.epochs_path = self.root / "epochs.parquet"
        self._tables = (self.trials_path, self.epochs_path)
        self._work = self.root / ".work"
        self._ended = self._work / "ended"
        self._launches = self._work / "launches"
        self._leases = Leases(self._work / "leases")
        self._checkpoints = self._work / "checkpoints"
        self._asked = self._work / "asked"
        self._kept = self.root / "checkpoints"
        self._next_compaction = 0.0
        self._stored: dict[str, End] = {}
        self._stored_at: tuple[int, int, int] | None = None

    def create(self) -> None:
        """Make the directories; a directory that is there already is left as it is.

        Raises:
            StoreError: they cannot be made or written to.
        """
        try:
            for path in (self._kept, self._work, *(self._work.iterdir() if self._work.is_dir() else ())):
                if path.is_symlink():
                    raise StoreError(
                        f"{path}: is a link; what belongs to a store lies in it. Link it whole instead."
                    )
            for directory in (self._ended, self._launches, self._checkpoints):
                directory.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self._work / "locks", ignore_errors=True)  # kernel locks of older versions
            files.write_text(
                self._work / "README", "Working files of gridrun. Leave them while a launch runs.\n"
            )
        except OSError as error:
            raise unwritable(self.root, error) from None
        for path in self._tables:  # better now than after hours of training
            parquet.check(path)

    # --- reading -------------------------------------------------------------------------------

    def rows(
        self, trial_ids: Collection[str] | None = None, columns: Collection[str] | None = None
    ) -> dict[str, Row]:
        """Return the row of each ended trial, or of those named, by trial id.

        Args:
            trial_ids: whose rows; None for all.
            columns: which are needed, where the file has them; there may be more. None for all.

        Raises:
            StoreError: a Parquet file is damaged or not ours.
        """
        pending, table = self._read(trial_ids, columns)
        rows = {row["trial_id"]: row for row in _listed(table)}
        ends = {
            r.trial_id: End(rows[r.trial_id]["status"], rows[r.trial_id]["ended_at"])
            for r in pending
            if r.trial_id in rows
        }
        return rows | {record.trial_id: record.row() for record in pending if _counts(record, ends)}

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
        pending, table = self._read(trial_ids, columns)
        stored = [] if table is None else Record.from_columns(table.to_pydict(), len(table))
        records = {record.trial_id: record for record in stored}
        ends = {r.trial_id: _end(records[r.trial_id]) for r in pending if r.trial_id in records}
        newer = [record for record in pending if _counts(record, ends)]
        return records | {record.trial_id: Record.from_row(record.row()) for record in newer}

    def _read(
        self, trial_ids: Collection[str] | None, columns: Collection[str] | None
    ) -> tuple[list[Record], pa.Table | None]:
        """Return the records outside the Parquet file, and what that says of the same trials."""
        pending = self._pending(trial_ids)  # first: records only ever move into the Parquet file
        needed = None if columns is None else _END_COLUMNS
        optional = {*(columns or ())} - {*_END_COLUMNS}
        return pending, parquet.read(self.trials_path, needed, trial_ids=trial_ids, optional=optional)

    def trials_table(self) -> pa.Table:
        """Return `trials.parquet` as it would be with every ended trial in it. Raises StoreError."""
        pending, old = self._pending(), parquet.read(self.trials_path)
        ends = {} if old is None else _ends(old)
        newer = [record for record in pending if _counts(record, ends)]
        replaced = [record.trial_id for record in newer]
        return parquet.joined(old, [record.row() for record in newer], TRIAL_TYPES, replaced)

    def epochs_table(self) -> pa.Table:
        """Return `epochs.parquet` as it would be with every ended trial in it. Raises StoreError."""
        pending, old = self._pending(), parquet.read(self.epochs_path)
        known = set() if old is None else set(old["trial_id"].to_pylist())
        newer = [record for record in pending if record.status == "done" or record.trial_id not in known]
        replaced = [record.trial_id for record in newer]
        rows = [row for record in newer for row in record.epoch_rows()]
        return parquet.joined(old, rows, EPOCH_TYPES, replaced)

    def epochs(self, trial_ids: Collection[str]) -> dict[str, list[Row]]:
        """Return the epochs of the named trials, in order, by trial id."""
        pending = self._pending(trial_ids)
        found: dict[str, list[Row]] = {}
        given = parquet.read(
            self.epochs_path, _EPOCH_KEY, trial_ids, optional=EPOCH_TYPES.keys() - _EPOCH_KEY
        )
        for row in _listed(given):
            found.setdefault(row["trial_id"], []).append(row)
        newer = [r for r in pending if r.status == "done" or r.trial_id not in found]
        return found | {record.trial_id: record.epoch_rows() for record in newer}

    def statuses(self) -> dict[str, Status]:
        """Return the status of every ended trial, by trial id."""
        pending = self._pending()
        ends = self._stored_ends()
        newer = {record.trial_id: _later(ends.get(record.trial_id), _end(record)) for record in pending}
        return {trial_id: end.status for trial_id, end in {**ends, **newer}.items()}

    def ended(self, trial_id: str, but_not_at: str | None = None) -> Status | None:
        """Return the status of a trial that has ended, None of one that has not.

        An end other than `done` at exactly the time `but_not_at` does not count: that is the failure
        which is to be tried again.
        """
        end = self.end(trial_id)
        return end.status if end and (end.status == "done" or end.ended_at != but_not_at) else None

    def end(self, trial_id: str) -> End | None:
        """Return how a trial ended, None of one that has not."""
        pending = self._pending([trial_id])
        end = self._stored_ends().get(trial_id)
        for record in pending:
            end = _later(end, _end(record))
        return end

    def find(self, start: str) -> str:
        """Return the id of the one ended trial whose id begins so.

        Raises:
            StoreError: there is none, or there are several.
        """
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

    def _stored_ends(self) -> dict[str, End]:
        """Return the end of every trial in the Parquet file, read anew only when that has changed."""
        files.refresh_directory(self.root)
        try:
            with self.trials_path.open("rb") as file:  # a network file system asks its server only then
                stat = os.fstat(file.fileno())
            changed = stat.st_ino, stat.st_mtime_ns, stat.st_size
        except FileNotFoundError:
            changed = None
        except OSError:  # reading it says more
            changed = -1, -1, -1
        if changed != self._stored_at:
            table = parquet.read(self.trials_path, _END_COLUMNS, optional=_LATER_END_COLUMNS)
            self._stored = {} if table is None else _ends(table)
            self._stored_at = changed
        return self._stored

    def _pending(self, trial_ids: Collection[str] | None = None) -> list[Record]:
        if trial_ids is None or len(trial_ids) > 100:
            paths = _json_files(self._ended)
        else:
            paths = [self._ended / f"{_checked(trial_id)}.json" for trial_id in trial_ids]
            files.refresh_directory(self._ended)
        records = []
        for path in paths:
            try:
                record = Record.from_json(files.read_text(path))
                if record.trial_id != path.stem or not _TRIAL_ID.fullmatch(path.stem):
                    raise ValueError(f"the record of another trial, {record.trial_id!r}")
                records.append(record)
            except OSError as error:
                if not files.is_gone(error):  # else compacted meanwhile
                    raise StoreError(f"{path}: cannot be read ({error.strerror})") from None
            except ValueError as error:
                raise StoreError(f"{path}: {error}. Move it away to go on.") from None
        return records

    # --- writing -------------------------------------------------------------------------------

    def add(self, record: Record) -> None:
        """Keep an ended trial, unless it is done already; when this returns it is on disk.

        It counts an attempt that another launch has made meanwhile.
        """
        with contextlib.suppress(StoreError):  # a damaged file must not cost a result
            if old := self.end(record.trial_id):
                if old.status == "done":
                    return
                before = old.attempts or 1
                if record.attempts and record.attempts <= before and record.ended_at != old.ended_at:
                    record = replace(record, attempts=before + 1)
        try:
            files.write_text(self._ended / f"{_checked(record.trial_id)}.json", record.to_json())
        except OSError as error:
            raise unwritable(self.root, error) from error

    def compact(self, *, now: bool = False) -> None:
        """Move ended trials into the Parquet files, unless that was done a moment ago.

        The wait grows with what compaction costs, so that it stays a small part of a long sweep.
        """
        if not now and time.monotonic() < self._next_compaction:
            return
        started = time.monotonic()
        try:
            while not self._compacted(wait=now) and now:
                pass
        except OSError as error:
            raise unwritable(self.root, error) from error
        ended = time.monotonic()
        self._next_compaction = ended + max(_COMPACT_EVERY_SECONDS, (ended - started) / _COMPACT_SHARE)

    def compact_leftovers(self) -> None:
        """Compact what a launch left behind that was killed before it could.

        Where nothing can be written it stays, and counts as it is.
        """
        if self._pending():
            with contextlib.suppress(StoreError):
                self.create()
                self.compact(now=True)

    def tidy(self, until: Callable[[], bool] = lambda: False) -> None:
        """Give the Parquet files their least size; takes some seconds, and leaves it where others write.

        Reading goes on meanwhile (`parquet.py` says how). It may end after each step, once `until` says so.
        """
        if until() or self.launches():
            return  # the last one to end does it
        # No room for a second version, or somebody else at work: they stay as they are.
        with contextlib.suppress(OSError, StoreError, parquet.Overtaken):
            for _ in range(_TIDY_STEPS):
                with self.lock("compact") as claim:
                    if not claim:
                        return
                    with self._partials(claim) as partials:
                        steps = [parquet.tidy(*each) for each in zip(self._tables, partials, strict=True)]
                if not any(steps) or until():
                    return
                time.sleep(parquet.SETTLED_SECONDS)

    def _compacted(self, *, wait: bool) -> bool:
        """Move what has ended into the Parquet files; False if another process does, or took over."""
        with self.lock("compact", wait=wait) as claim:
            if claim is None:
                return False
            try:
                for taken in self._ended.glob("*.taken"):  # by a process that was killed then
                    self._give_back(taken)
                if _json_files(self._ended):
                    with self._partials(claim) as partials:
                        self._compact(*partials)
            except parquet.Overtaken:
                return False
            return True

    @contextlib.contextmanager
    def _partials(self, claim: Claim) -> Iterator[list[Path]]:
        """Yield a partial file for the next version of each Parquet file; those of others are gone then.

        Whatever the next versions are made of is to be read after that. Others are of processes that
        were killed, or fell silent: who was taken over before `held` says so, and who is later finds its
        own files gone, which alone come into place.

        Raises:
            Overtaken: another process holds the claim by now.
        """
        with contextlib.ExitStack() as stack:
            own = [stack.enter_context(files.temporary_beside(path)) for path in self._tables]
            if not claim.held():
                raise parquet.Overtaken
            for partial in (p for path in self._tables for p in self.root.glob(f".{path.name}-*.partial")):
                if partial not in own:
                    partial.unlink(missing_ok=True)
            yield own

    def _compact(self, trials_partial: Path, epochs_partial: Path) -> None:
        pending, ends = self._pending(), self._stored_ends()
        if winners := [record for record in pending if _counts(record, ends)]:
            replaced = [record.trial_id for record in winners]
            epochs = [row for record in winners for row in record.epoch_rows()]
            rows = [record.row() for record in winners]
            parquet.append(self.epochs_path, epochs, EPOCH_TYPES, replaced, epochs_partial)
            parquet.append(self.trials_path, rows, TRIAL_TYPES, replaced, trials_partial)
        done = {f"{record.trial_id}.json" for record in pending if record.status == "done"}
        for name in done:
            (self._ended / name).unlink(missing_ok=True)
        for partial in self._ended.glob(".*.json-*"):  # of workers that were killed, or that lost a race
            if partial.name[1:].partition("-")[0] in done:
                partial.unlink(missing_ok=True)
        for record in pending:
            if record.status != "done":
                self._drop_pending(record)

    def _drop_pending(self, record: Record) -> None:
        """Remove a record unless that of another try is in its place by now; done ones stay what they are."""
        path = self._ended / f"{record.trial_id}.json"
        taken = path.with_suffix(f".{secrets.token_hex(8)}.taken")
        files.refresh_directory(self._ended)  # what is renamed and what is read then are to be the same
        with contextlib.suppress(FileNotFoundError):
            path.rename(taken)
            if Record.from_json(taken.read_text(encoding="utf-8")) == record:
                taken.unlink()
            else:
                self._give_back(taken)

    def _give_back(self, taken: Path) -> None:
        path = self._ended / f"{taken.name.partition('.')[0]}.json"
        if files.is_there(path):
            taken.unlink(missing_ok=True)
        else:
            taken.rename(path)

    # --- trials under way ----------------------------------------------------------------------

    def checkpoint(self, trial_id: str) -> Path:
        """Where a trial under way keeps its checkpoint."""
        return self._checkpoints / f"{_checked(trial_id)}.pt"

    def drop_checkpoint(self, trial_id: str) -> None:
        """Remove a trial's checkpoint, and what a killed save left beside it."""
        _remove(self._checkpoints, f"{_checked(trial_id)}.pt")

    def note_epoch(self, trial_id: str, epoch: int) -> None:
        """Say which epoch a trial under way has finished, for estimates; soon goes with its checkpoint."""
        with contextlib.suppress(OSError):
            (self._checkpoints / f"{_checked(trial_id)}.pt.epoch").write_text(str(epoch), encoding="utf-8")

    def checkpointed(self) -> dict[str, int]:
        """Return the last epoch that each trial with a checkpoint is known to have finished, by trial id."""
        found = {}
        for path in self._checkpoints.glob("*.pt.epoch") if self._checkpoints.is_dir() else ():
            with contextlib.suppress(OSError, ValueError):
                if path.with_suffix("").exists():
                    found[path.name.partition(".")[0]] = int(path.read_text(encoding="utf-8"))
        return found

    # --- what launches have asked for ----------------------------------------------------------

    def asked(self, name: str) -> frozenset[str]:
        """Return the ids of all trials that launches requested under this name (`plan.requested_name`)."""
        found: set[str] = set()
        with contextlib.suppress(OSError), os.scandir(self._asked) as entries:
            for path in [Path(entry) for entry in entries if entry.name.startswith(name)]:
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
                found.update(line for line in lines if _TRIAL_ID.fullmatch(line))
        return frozenset(found)

    def note_asked(self, name: str, trial_ids: Collection[str]) -> None:
        """Add to what `asked` returns: as a file, for of lines that two machines append NFS loses some."""
        if new := sorted(set(trial_ids) - self.asked(name)):
            with contextlib.suppress(OSError):  # a store that can only be read, or a full disk
                self._asked.mkdir(parents=True, exist_ok=True)
                files.write_text(self._asked / f"{name}.{secrets.token_hex(4)}", "\n".join(new) + "\n")

    # --- weights ---------------------------------------------------------------------------------

    def weights_path(self, trial_id: str) -> Path:
        """Where a trial that is done keeps its weights, if it does."""
        return self._kept / f"{_checked(trial_id)}.pt"

    def drop_weights(self, trial_id: str) -> None:
        """Remove a trial's weights, and what a killed save left beside them."""
        _remove(self._kept, f"{_checked(trial_id)}.pt")

    # --- locks -----------------------------------------------------------------------------------

    def is_locked(self, name: str) -> bool:
        """Return whether a live process holds the lock called `name`. What dead ones left is removed.

        Raises:
            StoreError: that cannot be read, or not be removed.
        """
        try:
            return self._leases.is_held(name)
        except OSError as error:
            raise unwritable(self.root, error) from error

    def clear_locks(self, start: str = "") -> None:
        """Remove what dead processes left of the locks whose names begin with `start`."""
        with contextlib.suppress(OSError):  # the next process to take such a lock removes it
            for name in self._leases.names():
                if name.startswith(start):
                    self._leases.is_held(name)

    def has_lock(self, name: str) -> bool:
        """Return whether there is a lock called `name`, be its holder alive or dead, here or elsewhere."""
        return self._leases.exists(name)

    @contextlib.contextmanager
    def lock(self, name: str, *, wait: bool = False) -> Iterator[Claim | None]:
        """Hold the lock called `name`, whatever becomes of the process; None if another holds it.

        Raises:
            StoreError: the directory cannot be written.
        """
        with contextlib.ExitStack() as stack:
            try:
                claim = stack.enter_context(self._leases.hold(name, wait=wait))
            except OSError as error:
                raise unwritable(self.root, error) from error
            yield claim

    # --- launches under way ----------------------------------------------------------------------

    def stop_path(self, launch_id: str) -> Path:
        """Where a launch leaves word that it is to stop."""
        return self._launches / f"{launch_id}.stop"

    def write_launch(self, launch_id: str, state: LaunchState) -> None:
        """Say what a running launch is doing, for `launches`."""
        files.write_text(self._launches / f"{launch_id}.json", state.to_json(), durable=False)

    def end_launch(self, launch_id: str) -> None:
        """Take back what `write_launch` said, and what dead launches left."""
        (self._launches / f"{launch_id}.json").unlink(missing_ok=True)
        for path in self._launches.glob("*"):
            # Nobody renews word to stop, and no clock's jump may take it back.
            kept = _WORD_KEPT_SECONDS if path.suffix in (".stop", ".drain") else 10 * _LAUNCH_SILENT_SECONDS
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > kept:
                    path.unlink()

    def launches(self) -> list[LaunchState]:
        """Return what each launch that is alive said last."""
        alive = []
        for path in _json_files(self._launches):
            with contextlib.suppress(OSError, ValueError):  # no launch of ours, or just over
                # Of a dead one, where a clock was set back since, the age is negative.
                if abs(time.time() - path.stat().st_mtime) < _LAUNCH_SILENT_SECONDS:
                    alive.append(LaunchState.from_json(files.read_text(path)))
        return alive


def _checked(trial_id: str) -> str:
    """Refuse an id that could name a file elsewhere."""
    if not _TRIAL_ID.fullmatch(trial_id):
        raise StoreError(f"{trial_id!r} is not a trial id (16 hex digits)")
    return trial_id


def _remove(directory: Path, start: str) -> None:
    """Remove the files whose names begin so."""
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for name in [entry.name for entry in entries if entry.name.removeprefix(".").startswith(start)]:
            (directory / name).unlink(missing_ok=True)


def _json_files(directory: Path) -> list[Path]:
    try:  # glob would find nothing in what may not be read
        with os.scandir(directory) as entries:
            return sorted(Path(entry) for entry in entries if entry.name.endswith(".json"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"{directory}: cannot be read ({error.strerror})") from None


def unwritable(root: Path, error: OSError) -> StoreError:
    """Return what to raise where nothing can be left in a store."""
    partial = str(error.filename).endswith(".partial")
    place = f": {Path(error.filename).parent if partial else error.filename}" if error.filename else ""
    return StoreError(f"{root}: cannot be written to ({error.strerror or error}{place})")


def _ends(table: pa.Table) -> dict[str, End]:
    """Return the end of every trial of a Parquet table, which may be older than some of the fields."""

    def column(name: str) -> Iterable[Any]:
        found: list[Any] = table[name].to_pylist() if name in table.column_names else [None] * len(table)
        return found

    return dict(zip(column("trial_id"), map(End, *map(column, End._fields)), strict=True))


def _end(record: Record) -> End:
    share = record.provenance.gpu_share
    return End(record.status, record.ended_at, record.failure, record.attempts, share)


def _later(old: End | None, new: End) -> End:
    """Return which of two ends of one trial counts: done stays done, else the one added later.

    No clocks are compared, for those of two machines may differ.
    """
    return new if old is None or (old.status != "done" and new[:2] != old[:2]) else old


def _counts(record: Record, ends: Mapping[str, End]) -> bool:
    """Return whether a pending record counts for more than the stored end of the same trial."""
    old = ends.get(record.trial_id)
    return _later(old, _end(record)) is not old


def _listed(table: pa.Table | None) -> list[Row]:
    if table is None:
        return []
    # Most columns of a store have one value: the commit, the machine, a note that no trial has made.
    columns = dict(zip(table.column_names, table.columns, strict=True))
    own = {name: column for name, column in columns.items() if name == "trial_id" or _varies(column)}
    alike = {
        name: None if name in own else table[name][0].as_py() for name in table.column_names if len(table)
    }
    return [
        alike | dict(zip(own, values, strict=True))
        for values in zip(*(column.to_pylist() for column in own.values()), strict=True)
    ]


def _varies(column: pa.ChunkedArray) -> bool:
    """Return whether a column may have several values, as one of lists may."""
    if pa.types.is_nested(column.type):
        return True
    return column.null_count < len(column) and len(column.unique()) > 1
