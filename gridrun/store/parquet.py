"""Parquet files that grow while others read them.

A file is always replaced whole, in one step. But many readers (`pandas.read_parquet` among them) open
a file twice, first for its footer and then for the data, and so may read two versions. A reader that has
the old footer must find the old data in the new file, too. So each new version keeps the bytes that the
old footer refers to, in their place:

    [groups]                      a version
    [groups][new group]           rows were added: old bytes are copied, nothing is encoded again
    [groups][all rows]            a column is new, a row is replaced, or there are many groups: all is
                                  written again behind the old bytes, and the footer refers to that alone
    [all rows][    ][all rows]    after a second or more: written again in front; the footer refers to it
    [all rows]                    after another second: the old bytes are cut off

A reader is misled only if it pauses for over a second between its two looks. `opened` is how a file is
opened, `columns` how rows become columns.

`Compaction` keeps writers apart, also one that was paused and has lost its lease.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gridrun.errors import StoreError
from gridrun.store.columns import named, stacked, table_of
from gridrun.store.opened import FORMAT, MAGIC, columns_of, foreign, looked, opened, ours, reading
from trainer import files

MAX_ROW_GROUPS = 256
TIDY_ROW_GROUPS = 8
"""When a launch ends, so many are not worth a rewrite yet; each costs some 7 KiB."""
SETTLED_SECONDS = 1.0
"""After so long, no reader has the footer of the version before any more."""


def read(
    path: Path,
    columns: Collection[str] | None = None,
    trial_ids: Collection[str] | None = None,
    optional: Collection[str] = (),
) -> pa.Table | None:
    """Return the rows of a file, None where there is none.

    Args:
        columns: the columns to read; None for all.
        trial_ids: the trials whose rows to return; None for all.
        optional: more columns to read, if the file has them.

    Raises:
        StoreError: the file is damaged or not ours.
    """

    def look() -> pa.Table | None:
        files.refresh_directory(path.parent)
        try:
            handle = files.open_to_read(path)  # once, so that footer and data are of one version
        except FileNotFoundError:
            return None
        with handle:
            file = ours(path, handle)
            found, wanted = set(file.schema_arrow.names), None
            if columns is not None:
                if lacking := set(columns) - found:
                    raise foreign(path, f"has no column {min(lacking)!r}")
                wanted = list({"trial_id", *columns, *optional} & found)
            table = columns_of(path, file, handle, wanted)
            return table if trial_ids is None else table.filter(named(table, trial_ids))

    return looked(path, look)


def joined(
    old: pa.Table | None, rows: list[dict[str, Any]], types: Mapping[str, type], replaced: Collection[str]
) -> pa.Table:
    """Return what `append` would leave in a file that holds `old`."""
    new = table_of(rows, types)
    return new if old is None else stacked(old.filter(pc.invert(named(old, replaced))), new)


def append(
    path: Path,
    rows: list[dict[str, Any]],
    types: Mapping[str, type],
    replaced: Collection[str],
    partial: Path,
) -> None:
    """Add rows to a file, in place of any rows of the `replaced` trials.

    Args:
        path: the file; made if there is none.
        rows: the new rows; they may have more columns than the file, or fewer.
        types: the types of the columns that are always there.
        replaced: ids of the trials whose old rows are removed.
        partial: an empty file beside `path` for the new version.

    Raises:
        StoreError: the file is damaged or not ours, or cannot hold these rows (`UnstorableError`).
        OSError: `partial` cannot be written, or was removed; the file is as before.
    """
    old = _version(path, partial)
    with _storing(path):
        new = table_of(rows, types)
    kept: _Version | None = None
    with reading(path):
        if old:
            schema = old.file.schema_arrow
            added = stacked(schema.empty_table(), new)
            grows = (
                old.num_groups < MAX_ROW_GROUPS
                and not (old.moved and old.settled)
                and added.schema.equals(schema)
                and not pc.any(named(old.read(["trial_id"]), replaced)).as_py()
            )
            kept = old if grows else None
            new = added if grows else joined(old.read(), rows, types, replaced)
    with _storing(path):
        if kept:
            _extend(partial, kept, new)
            _check_readable(partial, known=kept.num_groups)
        else:
            _rewrite(partial, old, new)
            _check_readable(partial)
    files.commit(partial, path)


def check_storable(rows: list[dict[str, Any]], types: Mapping[str, type], path: Path) -> None:
    """Write rows to a file in memory and read them back. Raises UnstorableError."""
    with _storing(path):
        buffer = pa.BufferOutputStream()
        pq.write_table(table_of(rows, types), buffer)
        opened(pa.BufferReader(buffer.getvalue())).read(use_threads=False)


class UnstorableError(StoreError):
    """Rows that Arrow cannot write, or cannot read back."""


@contextlib.contextmanager
def _storing(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OverflowError, RecursionError) as error:
        raise UnstorableError(f"{path}: cannot hold a new record ({_first_line(error)})") from None
    except OSError as error:
        if error.errno is not None:  # else Arrow's, of a file that it has just written
            raise
        raise UnstorableError(f"{path}: cannot hold a new record ({_first_line(error)})") from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_readable(partial: Path, known: int = 0) -> None:
    """Read a new version: a file that nobody can read must not take the place of one that all can.

    Its first `known` row groups are those of the old version, byte for byte, and are not read again.
    """
    with partial.open("rb") as handle:
        file = opened(handle)
        file.read_row_groups(range(known, file.num_row_groups), use_threads=False)


def tidy(path: Path, partial: Path) -> bool:
    """Take one step towards a file of one row group without old bytes; return whether more are needed.

    The next step may follow SETTLED_SECONDS later. `partial`, and the errors, are those of `append`.
    """
    old = _version(path, partial)
    if old is None:
        return False
    with reading(path):
        scattered = old.moved or old.num_groups > TIDY_ROW_GROUPS
        whole = old.read() if scattered and (old.settled or not old.moved) else None
    dead = old.end < old.footer
    with _storing(path):
        if whole is not None:
            _rewrite(partial, old, whole)
        elif old.settled and dead:
            _extend(partial, old, None)
        else:
            return scattered or dead
        _check_readable(partial)
    files.commit(partial, path)
    return whole is not None


# --- versions ----------------------------------------------------------------------------------


class _Version:
    """A whole file as it is now. Its footer refers only to the bytes from `start` to `end`."""

    def __init__(self, path: Path, content: bytes, *, settled: bool) -> None:
        self.content = content
        self.settled = settled
        """Whether it is so old that no reader has the footer of the version before."""
        self.path, self.source = path, pa.BufferReader(content)
        self.file = ours(path, self.source)
        self.num_groups = self.file.metadata.num_row_groups
        self.footer = len(content) - _footer_size(self.file.metadata)
        """Offset of the footer. Bytes of the previous version may lie between `end` and it."""
        chunks = [
            group.column(column)
            for group in map(self.file.metadata.row_group, range(self.num_groups))
            for column in range(group.num_columns)
        ]
        starts = [chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks]
        ends = [at + chunk.total_compressed_size for at, chunk in zip(starts, chunks, strict=True)]
        self.start = min(starts, default=len(MAGIC))
        self.end = max(ends, default=len(MAGIC))
        self.moved = self.start > len(MAGIC)
        """Whether the live bytes stand behind bytes of older versions."""

    @property
    def kept(self) -> memoryview:
        """The bytes that the next version keeps in their place.

        A reader may have the footer before this one: keep what that refers to, too, until it is settled.
        """
        return memoryview(self.content)[len(MAGIC) : self.end if self.settled else self.footer]

    def read(self, columns: list[str] | None = None) -> pa.Table:
        return columns_of(self.path, self.file, self.source, columns)


def _version(path: Path, partial: Path) -> _Version | None:
    """Return the version to replace; None if there is no file."""
    now = partial.stat().st_mtime  # by the file server's clock, which also dated the old version

    def look() -> _Version | None:
        files.refresh_directory(path.parent)
        try:
            with files.open_to_read(path) as handle:
                written_at, content = os.fstat(handle.fileno()).st_mtime, handle.read()
        except FileNotFoundError:
            return None
        return _Version(path, content, settled=now - written_at >= SETTLED_SECONDS)

    return looked(path, look)


def _extend(partial: Path, old: _Version, new: pa.Table | None) -> None:
    """Write a version with the row groups of the old one, copied as bytes, and `new` as one more."""
    with _writing(partial, old.file.schema_arrow) as (file, writer):
        file.write(old.kept)
        if new is not None:
            writer.write_table(new)
    # The writer's footer knows only the new group: replace it by one that has the old groups as well.
    metadata, written = old.file.metadata, pq.read_metadata(partial)
    metadata.append_row_groups(written)
    footer = pa.BufferOutputStream()
    metadata.write_metadata_file(footer)  # the magic, the footer, its length and the magic
    with partial.open("r+b") as file:
        file.seek(-_footer_size(written), os.SEEK_END)
        file.truncate()
        file.write(memoryview(footer.getvalue())[len(MAGIC) :])


def _rewrite(partial: Path, old: _Version | None, table: pa.Table) -> None:
    """Write a version with one row group, in front of the bytes that the old footer refers to, or behind."""
    table = table.combine_chunks()
    # The space in front may be overwritten once no reader holds the previous footer, which points into it.
    if old and old.settled and old.moved:
        with _writing(partial, table.schema) as (file, writer):
            writer.write_table(table)
            if fits := file.tell() <= old.start:
                file.write(bytes(old.start - file.tell()))  # so that the old bytes keep their place
                file.write(memoryview(old.content)[old.start : old.end])
        if fits:
            return
    with _writing(partial, table.schema) as (file, writer):
        if old:
            file.write(old.kept)
        writer.write_table(table)


@contextlib.contextmanager
def _writing(partial: Path, schema: pa.Schema) -> Iterator[tuple[pa.NativeFile, pq.ParquetWriter]]:
    """Yield an open file, and a writer that adds row groups at the file's position."""
    with partial.open("r+b") as raw:  # fails if the file was removed, and does not make it again
        raw.truncate()
        with (
            pa.PythonFile(raw, "w") as file,
            pq.ParquetWriter(
                file, schema.with_metadata(FORMAT), compression="zstd", write_page_checksum=True
            ) as writer,
        ):
            yield file, writer


def _footer_size(metadata: pq.FileMetaData) -> int:
    """Return the bytes at the end of a file that hold its footer, the length of that, and the magic."""
    return int(metadata.serialized_size) + 4 + len(MAGIC)
