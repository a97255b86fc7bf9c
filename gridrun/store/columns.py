"""Rows of any options as the columns of an Arrow table."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def table_of(rows: list[dict[str, Any]], types: Mapping[str, type]) -> pa.Table:
    """Return rows as a table. It has the columns of `types` in any case; those of others are guessed.

    Raises:
        pa.ArrowException, OverflowError, RecursionError: Arrow cannot hold them.
    """
    names = dict.fromkeys([*types, *(name for row in rows for name in row)])
    return pa.table({name: _column([row.get(name) for row in rows], types.get(name)) for name in names})


def _column(values: list[Any], given: type | None) -> pa.Array:
    if given:
        return pa.array(values, _ARROW[given])
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):  # an option that has another type in another model
        return _as_text(values)


def _with_text(table: pa.Table, name: str) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, _as_text(table[name].to_pylist()))


def _as_text(values: list[Any]) -> pa.Array:
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return pa.array(texts, pa.string())


def stacked(old: pa.Table, new: pa.Table) -> pa.Table:
    """Return the rows of both tables. A column whose two types have none in common becomes text."""
    for name in set(old.column_names) & set(new.column_names):
        try:
            pa.concat_tables([old.select([name]), new.select([name])], promote_options="permissive")
        except pa.ArrowException:
            old, new = _with_text(old, name), _with_text(new, name)
    return pa.concat_tables([old, new], promote_options="permissive")


def named(table: pa.Table, trial_ids: Collection[str]) -> pa.Array:
    """Return which rows are of the trials that are named, a mask."""
    return pc.is_in(table["trial_id"], value_set=texts(trial_ids))


def texts(values: Iterable[str]) -> pa.Array:
    """Return texts as a column. `pa.array` would import pandas."""
    builder = pa.lib.StringBuilder()
    builder.append_values(list(values))
    return builder.finish()
