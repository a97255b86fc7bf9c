"""How trials ended, and which of two ends of one trial counts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from gridrun.store import parquet
from gridrun.store.records import Failure, Record, Status
from trainer import files


class End(NamedTuple):
    """How a trial ended."""

    status: Status
    ended_at: str
    failure: Failure | None = None
    attempts: int | None = None
    gpu_share: float | None = None


END_COLUMNS = ["trial_id", "status", "ended_at"]
"""Columns that files of all versions have."""


def end_of(record: Record) -> End:
    """Return how the trial of a record ended."""
    return End(record.status, record.ended_at, record.failure, record.attempts, record.provenance.gpu_share)


def _ends_of(table: pa.Table) -> dict[str, End]:
    """Return the end of each trial of a Parquet table, by trial id."""
    columns = table.to_pydict()
    fields = (columns.get(name, repeat(None)) for name in End._fields)
    return dict(zip(columns["trial_id"], map(End, *fields), strict=True))


def later(old: End | None, new: End) -> End:
    """Return which of two ends of a trial counts: `done` if the old one is, else the one added later.

    Their times are not compared, since the clocks of two machines differ. A failure replaces a diverged end
    only if it is a retry of it: a result may come from another store while the trial is being trained here.
    """
    if old is None:
        return new
    counts_old = old.status == "done" or new[:2] == old[:2]
    if old.status == "diverged" and new.status == "failed":
        counts_old |= (new.attempts or 1) <= (old.attempts or 1)
    return old if counts_old else new


def newer_records(records: Iterable[Record], ends: Mapping[str, End]) -> list[Record]:
    """Return the records that replace the stored ends of their trials."""
    olds = ((record, ends.get(record.trial_id)) for record in records)
    return [record for record, old in olds if later(old, end_of(record)) is not old]


class StoredEnds:
    """The ends of all trials in a Parquet file, read again only when the file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ends: dict[str, End] = {}
        self._version: tuple[int, ...] | None = None

    def read(self) -> dict[str, End]:
        """Return the ends, by trial id. Raises StoreError."""
        files.refresh_directory(self._path.parent)
        try:
            with files.open_to_read(self._path) as file:  # NFS asks its server only when a file is opened
                stat = os.fstat(file.fileno())
            version: tuple[int, ...] | None = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except FileNotFoundError:
            version = None
        except OSError:  # `parquet.read` raises what says more
            version = ()
        if version != self._version:
            table = parquet.read(self._path, END_COLUMNS, optional=End._fields)
            self._ends = {} if table is None else _ends_of(table)
            self._version = version
        return self._ends
