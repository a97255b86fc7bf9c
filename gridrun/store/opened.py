"""Opening a Parquet file that nobody need trust, and that another process may replace meanwhile.

Pages carry checksums, which are verified whenever they are read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from gridrun.errors import StoreError
from gridrun.store import unpacked
from gridrun.store.records import EPOCH_TYPES, TRIAL_TYPES

T = TypeVar("T")

MAGIC = b"PAR1"
FORMAT = {b"gridrun.format": b"1"}
_LOOKS = 20
_LOOK_SECONDS = 0.05
_OWN: dict[str, tuple[tuple[str, ...], Mapping[str, type]]] = {
    "trials.parquet": (("trial_id", "status", "ended_at"), TRIAL_TYPES),
    "epochs.parquet": (("trial_id", "epoch"), EPOCH_TYPES),
}
"""Of each file by name: the columns that all versions have, and the types of those that are ours."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is read into StoreError."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ESTALE:
            raise _Replaced(f"{path}: cannot be read ({error.strerror})") from None
        if isinstance(error, OSError) and error.errno not in (None, errno.EISDIR):
            raise StoreError(f"{path}: cannot be read ({error.strerror})") from None
        raise _Damaged(f"{path}: is damaged ({error}). Move it away to go on without it.") from None


class _Damaged(StoreError):
    """A file that is not a whole Parquet file."""


class _Replaced(StoreError):
    """A version that another machine replaced on NFS while it was read here."""


def looked(path: Path, look: Callable[[], T]) -> T:
    """Call `look`; if the file seems cut short, or was replaced meanwhile, call it again for a second.

    A file system in user space, such as sshfs, may first show a new version with the length of the old one.
    """
    for _ in range(_LOOKS):
        try:
            with reading(path):
                return look()
        except _Replaced:
            continue
        except _Damaged:
            with contextlib.suppress(OSError):
                if path.read_bytes().endswith(MAGIC):
                    break  # not cut short
            time.sleep(_LOOK_SECONDS)
    with reading(path):
        return look()


def opened(source: Any) -> pq.ParquetFile:
    """Open any Parquet file."""
    # Without Arrow's threads: if they read from a Python file, the process may abort at its end
    # (https://github.com/apache/arrow/issues/50482).
    return pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True)


def ours(path: Path, source: Any) -> pq.ParquetFile:
    """Open a file that gridrun has written.

    Raises:
        StoreError: it has not, or it promises more than a file of this length should hold.
    """
    file = opened(source)
    if problem := unpacked.problem(file, _length(source)):
        raise foreign(path, problem)
    if not FORMAT.items() <= (file.schema_arrow.metadata or {}).items():
        raise foreign(path, "was not written by gridrun")
    found = {field.name: field.type for field in file.schema_arrow}
    needed, known = _OWN.get(path.name, (("trial_id",), {"trial_id": str}))
    for name in needed:
        if name not in found:
            raise foreign(path, f"has no column {name!r}")
    for name in known.keys() & found.keys():
        if not _fits(found[name], known[name]):
            raise foreign(path, f"has {found[name]} in the column {name!r}")
    return file


def _fits(found: pa.DataType, kind: type) -> bool:
    """Return whether a column can have a type; older versions widened whole numbers, pandas texts."""
    checks = {
        str: (pa.types.is_string, pa.types.is_large_string),
        bool: (pa.types.is_boolean,),
    }.get(kind, (pa.types.is_integer, pa.types.is_floating))
    return any(check(found) for check in (pa.types.is_null, *checks))


def columns_of(path: Path, file: pq.ParquetFile, source: Any, columns: list[str] | None) -> pa.Table:
    """Read some columns of an open file, None for all. Raises StoreError: they would fill the memory."""
    if problem := unpacked.problem_of_texts(file, source, _length(source), columns):
        raise foreign(path, problem)
    return file.read(columns=columns, use_threads=False)


def _length(source: Any) -> int:
    """Return the number of bytes of an open file."""
    source.seek(0, os.SEEK_END)
    return int(source.tell())


def foreign(path: Path, why: str) -> StoreError:
    """Return the error to raise for a file that is not ours."""
    return StoreError(f"{path}: {why}. Move it away, or name another --results.")
