"""Results and tables in a notebook: what `import gridrun` offers, as pandas data frames.

Errors are fractions and times are seconds, as in the store. Whole numbers and booleans have pandas'
nullable types; otherwise one model without a depth would turn every depth into a float.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from gridrun.errors import GridrunError, StoreError
from gridrun.grid import load_grid, load_grids
from gridrun.grid.describe import describe_config
from gridrun.grid.sources import parse_scale
from gridrun.grid.yaml import nearest_beside
from gridrun.looks import settle
from gridrun.metrics import METRICS
from gridrun.store import Store
from gridrun.tables import render
from gridrun.tables.build import tables_of
from gridrun.tables.model import Line, Table
from gridrun.trial import config_of
from trainer import TrainConfig
from trainer.schema import field_types, mapped_registry, without_none

_NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}


class NotebookTable(Table):
    """A table that a notebook shows as a README does."""

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        return render.to_markdown(self)

    _repr_markdown_ = to_markdown

    def to_frame(self) -> pd.DataFrame:
        """Return one row per line of the table: its options, then each metric's median.

        `runs` counts the trials that are done. A metric that varies between runs also has `_min`, `_max`
        and `_std` columns; one with published values has a `published_` column and, if it is an error,
        its `_difference`, half the 95 % interval of that (`_half_width`) and a `_verdict`. What does not
        apply is missing. Metrics are named as in `load_results`.
        """
        frame: pd.DataFrame = pd.DataFrame([_line(self, line) for line in self.lines])
        return frame


def _line(table: Table, line: Line) -> dict[str, Any]:
    values: dict[str, Any] = {**line.options, "runs": len(line.done)}
    for metric, cell in line.cells.items():
        # As in `load_results`: `train_seconds` for `train_time`. An accuracy is no column there.
        name = metric if METRICS[metric].error else METRICS[metric].record
        values[name] = cell.median
        if METRICS[metric].varies:
            values |= {f"{name}_min": cell.low, f"{name}_max": cell.high, f"{name}_std": cell.std}
        if metric in table.published:
            values[f"published_{name}"] = cell.published
            if METRICS[metric].is_error:
                values[f"{name}_difference"] = cell.difference
                values[f"{name}_half_width"] = cell.half_width
                values[f"{name}_verdict"] = cell.verdict
    return values


def load_results(
    path: str | os.PathLike[str] | None = None, *, grids: Sequence[str | os.PathLike[str]] = ()
) -> pd.DataFrame:
    """Return one row per ended trial, also of a sweep that is still running.

    Columns are those of `trials.parquet`: ids, every option by its dotted name, metrics, provenance. More
    are computed: `model_label` (the model as tables print it), `setting` (data set, model and every option
    that is not at its default, in words; the seeds of a config share it), and `note` (what `gridrun note`
    has kept on a trial and on its row). Times are timestamps, UTC.

    To compare settings, group by `["config_id", "setting"]`: a group then holds nothing but seeds.

    Args:
        path: the results directory. None means `GRIDRUN_RESULTS`, or else `results`, as on the command line.
        grids: paths of grid files, for their trials alone. Columns `grid` and `case` then have the names of
            the first grid that asks for a trial, and of its row there.

    Raises:
        GridError: a grid file has a mistake.
        StoreError: there are no results, or they are damaged.
    """
    if isinstance(grids, (str, os.PathLike)):
        grids = [grids]
    store = _store(path)
    loaded = settle([load_grid(grid) for grid in grids], store)
    frame = _frame(store.trials_table())
    for name in ("started_at", "ended_at"):
        frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601", errors="coerce")
    described = {text: _describe(text) for text in frame["config_json"].unique()}
    place = frame.columns.get_loc("seed")
    for number, name in enumerate(("model_label", "setting")):
        frame.insert(place + number, name, [described[text][number] for text in frame["config_json"]])
    frame["note"] = _notes_of(frame, store)
    for name, hint in field_types(TrainConfig).items():  # an empty store has no values to make them of
        if name not in frame and not mapped_registry(hint):
            frame[name] = pd.Series(None, frame.index, _PANDAS.get(without_none(hint), "object"))
    if not loaded:
        return frame
    asked = {
        i: (grid.name, row.name) for grid in reversed(loaded) for row in grid.rows for i in row.trial_ids
    }
    frame = frame[frame["trial_id"].isin(asked)].reset_index(drop=True)
    for number, name in enumerate(("grid", "case")):
        frame.insert(number, name, [asked[trial_id][number] for trial_id in frame["trial_id"]])
    return frame


_PANDAS = {int: "Int64", bool: "boolean", float: "float64"}


def _notes_of(frame: pd.DataFrame, store: Store) -> pd.Series:
    """Return the users' notes on each trial and its row, joined; missing where there are none."""
    texts: dict[str, list[str]] = {}
    for note in store.notes.read():
        texts.setdefault(note.about, []).append(note.text)
    pairs = zip(frame["trial_id"], frame["config_id"], strict=True)
    joined = ["; ".join([*texts.get(trial, ()), *texts.get(config, ())]) or None for trial, config in pairs]
    return pd.Series(joined, frame.index, dtype="object")


def _describe(config_json: str) -> tuple[str | None, str | None]:
    """Return the label of a config's model, and the config in words; None if this version cannot read it."""
    try:
        config = config_of(config_json)
    except (ValueError, TypeError):
        return None, None
    return config.model.label, describe_config(config)


def load_epochs(path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Return one row per epoch of these trials, with its `trial_id`.

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
    set: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] | None = None,
    where: Mapping[str, Any] | None = None,
) -> list[NotebookTable]:
    """Return the tables of grid files; a notebook shows each as it looks in a README.

    Args:
        grids: paths of grid files.
        results: the results directory, as for `load_results`. Trials that it lacks count as not run.
        profile: a profile of the files, in place of the full study.
        scale: scale the study down, for example `{"epochs": 0.05, "train": 4000}` or
            `"epochs=0.05,train=4000"`.
        set: options by dotted key that win over the files', such as `{"model.depth": 56}`.
        seeds: how many seeds to take, or which, in place of the files'.
        where: the value, or a list of values, that rows must have, such as `{"batch_size": [64, 128]}`.

    Raises:
        GridrunError: no grid is given, `where` leaves no row, or an argument is not the path of one.
        GridError: a grid file has a mistake.
        StoreError: there are no results, or they are damaged.
    """
    if not grids:
        raise GridrunError("load_tables needs a grid file, such as 'grids/quickstart.yaml'")
    for grid in grids:
        if not isinstance(grid, (str, os.PathLike)):
            raise GridrunError(f"load_tables takes paths of grid files, each its own argument, got {grid!r}")
    store, scales = _store(results), _scale(scale)
    loaded = settle(load_grids(grids, set, profile=profile, scale=scales, seeds=seeds, where=where), store)
    return [
        NotebookTable(**{field.name: getattr(table, field.name) for field in dataclasses.fields(table)})
        for table in tables_of(loaded, store)
    ]


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(types_mapper=_NULLABLE.get, use_threads=False)
    return frame


def _scale(scale: Mapping[str, Any] | str | None) -> Mapping[str, Any] | None:
    """Return a scale as `load_grid` takes it. Raises GridrunError."""
    if isinstance(scale, str):
        return parse_scale(scale)
    if scale is None or isinstance(scale, Mapping):
        return scale
    raise GridrunError(f"scale must be a mapping or text such as 'epochs=0.05,train=4000', got {scale!r}")


def _store(path: str | os.PathLike[str] | None) -> Store:
    place = Path(path or os.environ.get("GRIDRUN_RESULTS") or "results")
    if not place.is_dir():
        near = nearest_beside(place, Path.is_dir)
        raise StoreError(f"{place}: no such results directory.{near}".removesuffix("."))
    return Store(place)
