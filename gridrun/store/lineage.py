"""The lineage of a search: one row for each member and round, in one Parquet file for each search."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gridrun.errors import StoreError
from gridrun.store import parquet
from trainer import files


@dataclass(frozen=True, kw_only=True, slots=True)
class LineageRow:
    """What one member of a search trains in one round, and where it comes from."""

    search_id: str
    name: str
    """Name of the search's grid file."""
    round: int
    """Counted from 1."""
    member: int
    """Counted from 0."""
    seed: int
    first_epoch: int
    """Counted from 1, as is the next one."""
    last_epoch: int
    trial_id: str
    parent_id: str | None
    """The trial that it goes on from; None in round 1."""
    donor: int | None
    """The member whose state and schedule it has taken over; None: it goes on with its own."""
    policy: str
    """The policy of this round, as text."""
    val_error: float | None
    """At the last epoch, on the held-out images, a fraction; None: not yet, or it has diverged."""


_STRING, _INT, _FLOAT = pa.string(), pa.int64(), pa.float64()
_TYPES = {"int": _INT, "int | None": _INT, "float | None": _FLOAT}
_SCHEMA = pa.schema(
    [(field.name, _TYPES.get(str(field.type), _STRING)) for field in dataclasses.fields(LineageRow)],
    {b"gridrun.format": b"1"},
)


def write(path: Path, rows: Sequence[LineageRow]) -> None:
    """Replace a lineage, unless it is the same. Raises OSError."""
    if path.exists():
        with contextlib.suppress(StoreError):  # a damaged file is written anew
            if read(path) == list(rows):
                return
    table = pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], _SCHEMA)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as partial:
        pq.write_table(table, partial, write_page_checksum=True)


def read(path: Path) -> list[LineageRow]:
    """Return the rows of a lineage, by round and member; none if there is no file.

    Raises:
        StoreError: the file is damaged or not ours.
    """
    table = parquet.read(path, _SCHEMA.names)
    return [] if table is None else [LineageRow(**row) for row in table.select(_SCHEMA.names).to_pylist()]
