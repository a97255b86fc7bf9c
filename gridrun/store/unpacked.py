"""What a Parquet file takes in memory, found before it is read: a few bytes of it can stand for gigabytes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_ENCODED = 1000
"""Bytes that a byte of a file may become before texts and lists are put together."""
_UNPACKED = 200
"""Bytes that a byte of a file may become in all. A hundred thousand equal trials take 60."""
_ALWAYS = 2**28
"""Bytes that any file may take."""
_INDEX = pa.int64().byte_width


def problem(file: pq.ParquetFile, num_bytes: int) -> str | None:
    """Return why a file would take far more memory than results do, as far as its footer says so.

    The losses of an epoch alone take several bytes, and names of columns and configs shrink less than this.
    """
    metadata = file.metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    encoded = sum(group.total_byte_size for group in groups)
    if metadata.num_rows > num_bytes or encoded > _ENCODED * num_bytes:
        return f"names {metadata.num_rows} rows in {num_bytes} bytes, which cannot be results"
    fixed = sum(number * width for _, number, width in _leaves(file) if width)
    return _too_much(fixed, num_bytes)


def problem_of_texts(
    file: pq.ParquetFile, source: Any, num_bytes: int, columns: Collection[str] | None
) -> str | None:
    """Return why the texts of some columns, None for all, would take far more memory than results do.

    A column may name one long text in many rows, and the footer then knows only the size of one. So the texts
    are read as such names, and added up.
    """
    most: dict[str, int] = {}
    for path, number, width in _leaves(file):
        if not width and (columns is None or any(f"{path}.".startswith(f"{name}.") for name in columns)):
            most[path] = most.get(path, 0) + number
    encoded = dict.fromkeys(most, 0)
    for path, size in _sizes(file.metadata):
        if path in encoded:
            encoded[path] = max(encoded[path], size)
    if sum(number * encoded[path] for path, number in most.items()) <= _ALWAYS:
        return None
    found = 0
    for path in most:
        found += _text_bytes(file, source, path)
        if too_much := _too_much(found, num_bytes):
            return too_much
    return None


def _too_much(unpacked: int, num_bytes: int) -> str | None:
    if unpacked <= max(_ALWAYS, _UNPACKED * num_bytes):
        return None
    return f"would take {unpacked / 2**20:,.0f} MiB for its {num_bytes} bytes, which cannot be results"


def _leaves(file: pq.ParquetFile) -> Iterator[tuple[str, int, int]]:
    """Yield the path of each column of each row group, its number of values, and bytes each; 0 for texts."""
    metadata = file.metadata
    for index in range(metadata.num_columns):
        of_column = metadata.schema.column(index)
        width = 0 if of_column.physical_type == "BYTE_ARRAY" else max(of_column.length or 0, _INDEX)
        for group in range(metadata.num_row_groups):
            yield of_column.path, metadata.row_group(group).column(index).num_values, width


def _sizes(metadata: pq.FileMetaData) -> Iterator[tuple[str, int]]:
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            yield chunk.path_in_schema, chunk.total_uncompressed_size


def _text_bytes(file: pq.ParquetFile, source: Any, path: str) -> int:
    """Return the bytes of the texts of one column, each counted as often as a row names it."""
    named = pq.ParquetFile(
        source,
        metadata=file.metadata,
        read_dictionary=[path],
        pre_buffer=False,
        page_checksum_verification=True,
    )
    found = 0
    for group in range(file.metadata.num_row_groups):
        for part in named.read_row_group(group, columns=[path], use_threads=False).itercolumns():
            for chunk in (leaf for whole in part.chunks for leaf in _innermost(whole)):
                if pa.types.is_dictionary(chunk.type):
                    lengths = pc.binary_length(chunk.dictionary).take(chunk.indices)
                    found += pc.sum(lengths).as_py() or 0
                else:
                    found += chunk.nbytes
    return found


def _innermost(array: pa.Array) -> Iterator[pa.Array]:
    """Yield what is in lists of lists and the like."""
    kind = array.type
    if pa.types.is_struct(kind):
        for part in array.flatten():
            yield from _innermost(part)
    elif pa.types.is_nested(kind):
        yield from _innermost(array.flatten())
    else:
        yield array
