"""The results directory: the one truth about what has been trained.

    results/trials.parquet            one row a trial that has ended
    results/epochs.parquet            one row an epoch of those
    results/.work/ended/ID.json       ended trials not yet in the Parquet files
    results/.work/checkpoints/ID.pt   trials under way
    results/.work/locks/              held while a trial trains, or the Parquet files are rewritten
    results/.work/launches/ID.json    what a running launch is doing

A trial's record is written to `ended/` and on disk before anybody is told of it. Compaction moves
such records into the Parquet files: epochs first, then trials, then the small files go; a kill
in between leaves a record in both places, which reading and compacting again both allow for.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from gridrun import files
from gridrun.errors import StoreError
from gridrun.records import Record, Status

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]

_COMPACT_SHARE = 0.05
"""Part of a sweep's time that compaction may take."""
_COMPACT_EVERY_SECONDS = 2.0
_LAUNCH_SILENT_SECONDS = 15.0
"""A launch that has not written for so long is taken for dead."""
_TRIAL_ID = re.compile(r"[0-9a-f]{16}")


class Store:
    """One results directory. Any number of processes may use it at once."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()
        self.trials_path = self.root / "trials.parquet"
        self.epochs_path = self.root / "epochs.parquet"
        self._work = self.root / ".work"
        self._ended = self._work / "ended"
        self._launches = self._work / "launches"
        self._locks = self._work / "locks"
        self._checkpoints = self._work / "checkpoints"
        self._next_compaction = 0.0
        self._index: tuple[Any, dict[str, tuple[Status, str]]] = (None, {})

    def create(self) -> None:
        """Make the directories; a directory that is there already is left as it is.

        Raises:
            StoreError: they cannot be made or written to.
        """
        try:
            for directory in (self._ended, self._launches, self._locks, self._checkpoints):
                directory.mkdir(parents=True, exist_ok=True)
            files.write(self._work / "README", "Working files of gridrun. Leave them while a launch runs.\n")
        except OSError as error:
            raise StoreError(f"{self.root}: cannot be written to ({error.strerror})") from None

    # --- reading -------------------------------------------------------------------------------

    def rows(self, trial_ids: Collection[str] | None = None) -> dict[str, Row]:
        """Return the row of each ended trial, or of those named, by trial id.

        Raises:
            StoreError: a Parquet file is damaged or not ours.
        """
        pending = self._pending(trial_ids)  # before the Parquet file: records only move that way
        table = _read_parquet(self.trials_path)
        stored = (
            {} if table is None else {row["trial_id"]: row for row in _select(table, trial_ids).to_pylist()}
        )
        return _merged(stored, {record.trial_id: record.row() for record in pending})

    def epochs(self, trial_ids: Collection[str]) -> dict[str, list[Row]]:
        """Return the epochs of the named trials, in order, by trial id."""
        pending = self._pending(trial_ids)
        table = _read_parquet(self.epochs_path)
        found: dict[str, list[Row]] = {}
        for row in [] if table is None else _select(table, trial_ids).to_pylist():
            found.setdefault(row["trial_id"], []).append(row)
        return found | {record.trial_id: record.epoch_rows() for record in pending}

    def statuses(self) -> dict[str, Status]:
        """Return the status of every ended trial, by trial id."""
        return {trial_id: status for trial_id, (status, _) in self._ends().items()}

    def ended(self, trial_id: str, since: str = "") -> Status | None:
        """Return the status of a trial that is done, or that has ended otherwise at or after `since`."""
        if trial_id not in (ends := self._ends(only=trial_id)):
            return None
        status, at = ends[trial_id]
        return status if status == "done" or at >= since else None

    def _ends(self, only: str | None = None) -> dict[str, tuple[Status, str]]:
        """Return (status, time of ending) by trial id."""
        pending = self._pending(None if only is None else [only])
        changed = self.trials_path.stat().st_mtime_ns if self.trials_path.exists() else None
        if changed != self._index[0]:
            table = _read_parquet(self.trials_path, ["trial_id", "status", "ended_at"])
            columns = [] if table is None else [column.to_pylist() for column in table.columns]
            self._index = (changed, {i: (status, at) for i, status, at in zip(*columns, strict=True)})
        stored = (
            {i: {"status": end[0], "ended_at": end[1]} for i, end in self._index[1].items()}
            if pending
            else {}
        )
        if not pending:
            return self._index[1]
        merged = _merged(stored, {record.trial_id: record.row() for record in pending})
        return {trial_id: (row["status"], row["ended_at"]) for trial_id, row in merged.items()}

    def _pending(self, trial_ids: Collection[str] | None = None) -> list[Record]:
        if trial_ids is None or len(trial_ids) > 100:
            paths: Iterable[Path] = sorted(self._ended.glob("*.json")) if self._ended.is_dir() else ()
        else:
            paths = [self._ended / f"{_checked(trial_id)}.json" for trial_id in trial_ids]
        records = []
        for path in paths:
            with contextlib.suppress(FileNotFoundError):  # compacted meanwhile
                try:
                    records.append(Record.from_json(path.read_text(encoding="utf-8")))
                except ValueError as error:
                    raise StoreError(f"{path}: {error}. Move it away to go on.") from None
        return records

    # --- writing -------------------------------------------------------------------------------

    def add(self, record: Record) -> None:
        """Keep an ended trial; when this returns it is on disk."""
        files.write(self._ended / f"{_checked(record.trial_id)}.json", record.to_json())

    def compact(self, *, now: bool = False) -> None:
        """Move ended trials into the Parquet files, unless that was done a moment ago.

        The wait grows with what compaction costs, so that it stays a small part of a long sweep.
        """
        if not now and time.monotonic() < self._next_compaction:
            return
        started = time.monotonic()
        with self.lock("compact", timeout=-1 if now else 0) as held:
            if held:
                self._compact()
        ended = time.monotonic()
        self._next_compaction = ended + max(_COMPACT_EVERY_SECONDS, (ended - started) / _COMPACT_SHARE)

    def _compact(self) -> None:
        pending = self._pending()
        if not pending:
            return
        trials = _read_parquet(self.trials_path)
        stored = (
            {}
            if trials is None
            else {row["trial_id"]: row for row in _select(trials, [r.trial_id for r in pending]).to_pylist()}
        )
        winners = [
            r
            for r in pending
            if _merged(stored, {r.trial_id: r.row()})[r.trial_id] is not stored.get(r.trial_id)
        ]
        replaced = [record.trial_id for record in winners]
        if winners:
            epochs = [row for record in winners for row in record.epoch_rows()]
            _write_parquet(self.epochs_path, _without(_read_parquet(self.epochs_path), replaced), epochs)
            _write_parquet(self.trials_path, _without(trials, replaced), [record.row() for record in winners])
        for record in pending:
            (self._ended / f"{record.trial_id}.json").unlink(missing_ok=True)

    # --- trials under way ----------------------------------------------------------------------

    def checkpoint(self, trial_id: str) -> Path:
        """Where a trial under way keeps its checkpoint."""
        return self._checkpoints / f"{_checked(trial_id)}.pt"

    def stop_path(self, launch_id: str) -> Path:
        """Where a launch leaves word that it is to stop."""
        return self._launches / f"{launch_id}.stop"

    @contextlib.contextmanager
    def lock(self, name: str, timeout: float = 0) -> Iterator[bool]:
        """Hold the lock called `name`, whatever becomes of the process; False if another holds it."""
        lock = FileLock(self._locks / f"{name}.lock")
        try:
            lock.acquire(timeout=timeout)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)  # while held: who waits for it tries again
            lock.release()

    def write_launch(self, launch_id: str, state: Mapping[str, Any]) -> None:
        """Say what a running launch is doing, for `launches`."""
        path = self._launches / f"{launch_id}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(state), encoding="utf-8")
        partial.replace(path)

    def end_launch(self, launch_id: str) -> None:
        """Take back what `write_launch` said, and what dead launches left."""
        (self._launches / f"{launch_id}.json").unlink(missing_ok=True)
        for path in self._launches.glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > 10 * _LAUNCH_SILENT_SECONDS:
                    path.unlink()

    def launches(self) -> list[dict[str, Any]]:
        """Return what each launch that is alive said last."""
        alive = []
        for path in sorted(self._launches.glob("*.json")) if self._launches.is_dir() else ():
            with contextlib.suppress(FileNotFoundError, ValueError):
                if time.time() - path.stat().st_mtime < _LAUNCH_SILENT_SECONDS:
                    alive.append(json.loads(path.read_text(encoding="utf-8")))
        return alive


def _checked(trial_id: str) -> str:
    """Refuse an id that could name a file elsewhere."""
    if not _TRIAL_ID.fullmatch(trial_id):
        raise StoreError(f"{trial_id!r} is not a trial id (16 hex digits)")
    return trial_id


def _merged(stored: dict[str, Row], pending: dict[str, Row]) -> dict[str, Row]:
    """Let a pending row replace a stored one unless it says less: done stays done, later wins."""
    merged = dict(stored)
    for trial_id, row in pending.items():
        old = merged.get(trial_id)
        if old is None or (old["status"] != "done" and row["ended_at"] > old["ended_at"]):
            merged[trial_id] = row
    return merged


# --- Parquet -----------------------------------------------------------------------------------

_FORMAT = {b"gridrun.format": b"1"}


def _read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    try:
        table = pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path}: is damaged ({error}). Move it away to go on without it.") from None
    if not _FORMAT.items() <= (table.schema.metadata or {}).items():
        raise StoreError(f"{path}: was not written by gridrun. Move it away, or name another --results.")
    return table


def _select(table: pa.Table, trial_ids: Collection[str] | None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    if trial_ids is None:
        return table
    return table.filter(pc.is_in(table["trial_id"], pa.array(list(trial_ids), pa.string())))


def _without(table: pa.Table | None, trial_ids: Collection[str]) -> pa.Table | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if table is None:
        return None
    return table.filter(pc.invert(pc.is_in(table["trial_id"], pa.array(list(trial_ids), pa.string()))))


def _write_parquet(path: Path, table: pa.Table | None, rows: list[Row]) -> None:
    """Write `table` and below it `rows`, whose columns may differ."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(name for row in rows for name in row))
    added = pa.table({name: _column([row.get(name) for row in rows]) for name in names})
    if table is not None:
        table, added = _aligned(table, added)
        added = pa.concat_tables([table, added], promote_options="permissive")
    with files.replacing(path) as partial:
        pq.write_table(added.replace_schema_metadata(_FORMAT), partial, compression="zstd")


def _column(values: list[Any]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values)
    except pa.ArrowException:  # one option, different types in two families
        return pa.array([None if value is None else json.dumps(value) for value in values], pa.string())


def _aligned(old: pa.Table, new: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Turn columns whose types cannot be reconciled into JSON text on both sides."""
    import pyarrow as pa

    for name in set(old.column_names) & set(new.column_names):
        try:
            pa.unify_schemas(
                [pa.schema([old.schema.field(name)]), pa.schema([new.schema.field(name)])],
                promote_options="permissive",
            )
        except pa.ArrowException:
            old, new = (_as_text(table, name) for table in (old, new))
    return old, new


def _as_text(table: pa.Table, name: str) -> pa.Table:
    import pyarrow as pa

    values = table[name].to_pylist()
    if pa.types.is_string(table.schema.field(name).type):
        return table
    text = pa.array([None if value is None else json.dumps(value) for value in values], pa.string())
    return table.set_column(table.column_names.index(name), name, text)
