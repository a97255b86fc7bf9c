"""Parquet files that grow while others read them.

A file is always replaced whole, in one step. Many readers (`pandas.read_parquet` among them) open
a file by its name twice, first for its footer, then for the data, and may so meet two versions.
Hence a new version begins with the old one's bytes: the old row groups, written again the same
way, before the new one. What the old footer says holds for the new file too. The exceptions are
few: a first value of a new option, a trial run again, and one rewrite every MAX_ROW_GROUPS.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gridrun import files
from gridrun.errors import StoreError

MAX_ROW_GROUPS = 256
_FORMAT = {b"gridrun.format": b"1"}
_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def read(path: Path, columns: list[str] | None = None) -> pa.Table | None:
    """Return the file as a table, None where there is none.

    Raises:
        StoreError: the file is damaged or not ours.
    """
    try:
        with path.open("rb") as file:  # once: see above
            parquet = _opened(file)
            _check_ours(path, parquet)
            return parquet.read(columns=columns, use_threads=False)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def check(path: Path) -> None:
    """Look at a file's footer, if there is a file.

    Raises:
        StoreError: the file is damaged or not ours.
    """
    with contextlib.suppress(FileNotFoundError):
        read(path, [])


def select(table: pa.Table, trial_ids: Collection[str] | None) -> pa.Table:
    """Return the rows of the named trials, of all where None."""
    return table if trial_ids is None else table.filter(_named(table, trial_ids))


def append(
    path: Path, rows: list[dict[str, Any]], types: Mapping[str, type], replaced: Collection[str]
) -> None:
    """Add rows to a file, in place of any rows of the `replaced` trials.

    Args:
        path: the file; made if there is none.
        rows: which may have columns that the file does not, and lack some that it has.
        types: of the columns that are always there.
        replaced: trial ids whose old rows go.

    Raises:
        StoreError: the file is damaged or not ours.
    """
    new = _table(rows, types)
    try:
        with path.open("rb") as file:
            old = _opened(file)
            _check_ours(path, old)
            schema = _common(old.schema_arrow, new.schema)
            _write(path, schema, itertools.chain(_kept(old, replaced), [new]))
    except FileNotFoundError:
        _write(path, new.schema, [new])
    except (pa.ArrowException, IsADirectoryError) as error:
        raise _damaged(path, error) from None


def _write(path: Path, schema: pa.Schema, groups: Iterable[pa.Table]) -> None:
    schema = schema.with_metadata(_FORMAT)
    with files.replacing(path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for group in groups:
            if group.num_rows:
                writer.write_table(_conformed(group, schema))


def _kept(old: pq.ParquetFile, replaced: Collection[str]) -> Iterator[pa.Table]:
    """Yield the old row groups without the replaced rows; as one if they have become many."""
    groups = (old.read_row_group(index, use_threads=False) for index in range(old.num_row_groups))
    kept = (group.filter(pc.invert(_named(group, replaced))) for group in groups)
    if old.num_row_groups < MAX_ROW_GROUPS:
        yield from kept
    else:
        yield pa.concat_tables(kept)


def _named(table: pa.Table, trial_ids: Collection[str]) -> pa.Array:
    return pc.is_in(table["trial_id"], pa.array(list(trial_ids), pa.string()))


def _opened(file: IO[bytes]) -> pq.ParquetFile:
    """Open a file without Arrow's threads: of one that reads from a Python file, the process may abort
    as it ends (https://github.com/apache/arrow/issues/50482)."""
    return pq.ParquetFile(file, pre_buffer=False)


def _check_ours(path: Path, parquet: pq.ParquetFile) -> None:
    if not _FORMAT.items() <= (parquet.schema_arrow.metadata or {}).items():
        raise StoreError(f"{path}: was not written by gridrun. Move it away, or name another --results.")


def _damaged(path: Path, error: Exception) -> StoreError:
    return StoreError(f"{path}: is damaged ({error}). Move it away to go on without it.")


# --- columns -----------------------------------------------------------------------------------


def _table(rows: list[dict[str, Any]], types: Mapping[str, type]) -> pa.Table:
    names = dict.fromkeys([*types, *(name for row in rows for name in row)])
    return pa.table({name: _column([row.get(name) for row in rows], types.get(name)) for name in names})


def _column(values: list[Any], given: type | None) -> pa.Array:
    if given:
        return pa.array(values, _ARROW[given])
    try:
        return pa.array(values)
    except pa.ArrowException:  # one option with several types among the models
        return _as_text(values)


def _as_text(values: list[Any]) -> pa.Array:
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return pa.array(texts, pa.string())


def _common(old: pa.Schema, new: pa.Schema) -> pa.Schema:
    """Return the old columns and then the new ones; text where two types do not go together."""
    fields = [
        _common_field(field, new.field(field.name) if field.name in new.names else field) for field in old
    ]
    return pa.schema([*fields, *(field for field in new if field.name not in old.names)])


def _common_field(old: pa.Field, new: pa.Field) -> pa.Field:
    try:
        return pa.unify_schemas([pa.schema([old]), pa.schema([new])], promote_options="permissive").field(0)
    except pa.ArrowException:
        return pa.field(old.name, pa.string())


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table with exactly the columns of `schema`."""

    def column(field: pa.Field) -> Any:
        if field.name not in table.column_names:
            return pa.nulls(table.num_rows, field.type)
        found = table[field.name]
        if found.type == field.type:
            return found
        text = pa.types.is_string(field.type) and not pa.types.is_null(found.type)
        return _as_text(found.to_pylist()) if text else found.cast(field.type)

    return pa.table([column(field) for field in schema], schema=schema)
