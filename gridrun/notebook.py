"""What is stored, and the tables of it, as pandas data frames: `import gridrun` in a notebook.

Errors are fractions here as in the store, times seconds. Whole numbers and truth values have pandas'
nullable types, so that a model without a depth does not make every depth a float.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from gridrun.errors import GridrunError, StoreError
from gridrun.grid import load_grid
from gridrun.grid.sources import nearest_beside, parse_scale
from gridrun.metrics import METRICS
from gridrun.store import Store
from gridrun.tables.build import tables_of
from gridrun.tables.model import Line, Table

_NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}


def load_results(path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Return one row a trial that has ended, also of a sweep that is under way.

    Columns are those of `trials.parquet`: ids, every option by its dotted name, metrics, provenance.

    Args:
        path: the results directory; None is `GRIDRUN_RESULTS`, else `results`, as on the command line.

    Raises:
        StoreError: there are no results, or they are damaged.
    """
    return _frame(_store(path).trials_table())


def load_epochs(path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Return one row an epoch of these trials; `trial_id` says which.

    Args:
        path: the results directory, as for `load_results`.

    Raises:
        StoreError: there are no results, or they are damaged.
    """
    return _frame(_store(path).epochs_table())


def load_tables(
    *grids: str | os.PathLike[str],
    results: str | os.PathLike[str] | None = None,
    profile: str | None = None,
    scale: Mapping[str, Any] | str | None = None,
) -> list[Table]:
    """Return the tables of some grid files; a notebook shows one as it stands in a README.

    Args:
        grids: the files.
        results: the results directory, as for `load_results`; a table of trials that it does not have is
            an empty one.
        profile: the reduced form that is wanted, by its name in the files.
        scale: of a reduced form, such as `{"epochs": 0.05, "train": 4000}` or `"epochs=0.05,train=4000"`.

    Raises:
        GridrunError: no grid is named, or something that names none.
        GridError: a file does not say what to train.
        StoreError: there are no results, or they are damaged.
    """
    if not grids:
        raise GridrunError("load_tables needs a grid file, such as 'grids/quickstart.yaml'")
    for grid in grids:
        if not isinstance(grid, (str, os.PathLike)):
            raise GridrunError(f"load_tables takes grid files one by one, each a path, got {grid!r}")
    store, scales = _store(results), _scale(scale)
    loaded = [load_grid(path, profile=profile, scale=scales) for path in grids]
    return tables_of(loaded, store)


def table_frame(table: Table) -> pd.DataFrame:
    """Return one row a line of the table: options, then each metric's median and what it comes from.

    `runs` counts the trials that are done. Beside a metric that differs from run to run stand its `_min`,
    `_max` and `_std`, beside one that is published elsewhere its `published_` and, of an error, its
    `_verdict`; what does not apply is missing.
    """
    frame: pd.DataFrame = pd.DataFrame([_line(table, line) for line in table.lines])
    return frame


def _line(table: Table, line: Line) -> dict[str, Any]:
    values: dict[str, Any] = {**line.options, "runs": len(line.done)}
    for name, cell in line.cells.items():
        values[name] = cell.median
        if METRICS[name].varies:
            values |= {f"{name}_min": cell.low, f"{name}_max": cell.high, f"{name}_std": cell.std}
        if name in table.published:
            values[f"published_{name}"] = cell.published
            if METRICS[name].is_error:
                values[f"{name}_verdict"] = cell.verdict
    return values


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(types_mapper=_NULLABLE.get, use_threads=False)
    return frame


def _scale(scale: Mapping[str, Any] | str | None) -> Mapping[str, Any] | None:
    """Return a scale as `load_grid` takes it. Raises GridrunError."""
    if isinstance(scale, str):
        return parse_scale(scale)
    if scale is None or isinstance(scale, Mapping):
        return scale
    raise GridrunError(f"scale must be such as 'epochs=0.05,train=4000', or a mapping, got {scale!r}")


def _store(path: str | os.PathLike[str] | None) -> Store:
    place = Path(path or os.environ.get("GRIDRUN_RESULTS") or "results")
    if not place.is_dir():
        near = nearest_beside(place, Path.is_dir)
        raise StoreError(f"{place}: no such results directory.{near}".removesuffix("."))
    return Store(place)
