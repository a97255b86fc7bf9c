"""Records to tables: the median over the seeds beside what was published. Raw values, no layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

from gridrun.garbage import without_garbage_collection
from gridrun.grid.settings import Missing, config_option
from gridrun.metrics import COMPUTED, METRICS
from gridrun.tables.model import MIN_RUNS_OF_A_VERDICT, Cell, Line, Table, TrialRow, Verdict, number
from gridrun.tables.notes import NOTED_COLUMNS, hardware_mixture, notes_of, origins_of
from trainer import TrainConfig
from trainer.schema import field_types

if TYPE_CHECKING:
    from gridrun.grid import Grid, Published, Row, TableSpec
    from gridrun.grid.table_specs import Reported
    from gridrun.store import Store


import math
import statistics
from typing import TYPE_CHECKING

from gridrun.metrics import Metric, parse_runs

if TYPE_CHECKING:
    from gridrun.grid import Published


@without_garbage_collection()
def tables_of(grids: Sequence[Grid], store: Store) -> list[Table]:
    """Build every table of some grids from what is stored. Raises StoreError."""
    specs = [spec for grid in grids for spec in grid.tables]
    shown = {METRICS[column].record for spec in specs for column in spec.columns if column in METRICS}
    trial_ids = [trial_id for grid in grids for row in grid.rows for trial_id in row.trial_ids]
    rows = store.rows(trial_ids, NOTED_COLUMNS | shown)
    return [build_table(spec, rows) for spec in specs]


def build_table(spec: TableSpec, records: Mapping[str, TrialRow]) -> Table:
    """Gather a table from the trials that have ended.

    Args:
        spec: rows with their seeds, columns and published values, as a grid file gives them.
        records: rows of the store by trial id; those of other tables are ignored.
    """
    shown = [column for column in spec.columns if column not in METRICS]
    metrics = [column for column in spec.columns if column in METRICS]
    options = zip(*(_options(spec, column) for column in shown), strict=True) if shown else repeat(())
    lines = tuple(
        [
            _line(spec, row, metrics, dict(zip(shown, values, strict=True)), records)
            for row, values in zip(spec.rows, options, strict=False)
        ]
    )
    reported = tuple(_reported_line(spec.columns, row) for row in spec.reported)
    origins = origins_of(records[line.trials[seed]] for line in lines for seed in line.done)
    return Table(
        id=spec.id,
        title=spec.title,
        columns=tuple(spec.columns),
        lines=(*lines, *reported),
        mixed_hardware=hardware_mixture(origins) is not None,
        notes=tuple(notes_of(spec, lines, records, origins)),
        headers=spec.headers,
        spread=spec.spread,
    )


def _line(
    spec: TableSpec,
    row: Row,
    metrics: Sequence[str],
    options: Mapping[str, Any],
    records: Mapping[str, TrialRow],
) -> Line:
    trials = dict(zip(row.seeds, row.trial_ids, strict=True))
    seeds: dict[str, list[int]] = {"done": [], "diverged": [], "failed": [], "missing": []}
    found = {}
    for seed, trial_id in trials.items():
        record = records.get(trial_id)
        status = record["status"] if record else "missing"
        seeds[status if status in seeds else "missing"].append(seed)
        if record and status == "done":
            found[seed] = record
    published = spec.published.get(row.config_id)
    return Line(
        config_id=row.config_id,
        name=row.name,
        options=options,
        cells={column: make_cell(column, found, len(trials), published) for column in metrics},
        trials=trials,
        done=tuple(seeds["done"]),
        diverged=tuple(seeds["diverged"]),
        failed=tuple(seeds["failed"]),
        missing=tuple(seeds["missing"]),
    )


def _reported_line(columns: Sequence[str], row: Reported) -> Line:
    return Line(
        config_id="",
        name=None,
        options={column: row.options.get(column, "") for column in columns if column not in METRICS},
        cells={column: make_cell(column, {}, 0, row.published) for column in columns if column in METRICS},
        trials={},
        done=(),
        diverged=(),
        failed=(),
        missing=(),
    )


def _options(spec: TableSpec, column: str) -> list[Any]:
    """Return what a config column shows of each row."""
    field = column.partition(".")[0]
    if field not in field_types(TrainConfig):
        return [_option(row, column, spec.published.get(row.config_id)) for row in spec.rows]
    objects = [getattr(row.config, field) for row in spec.rows]
    # One row for each object: equal options of two rows are mostly one.
    rows = dict(zip(map(id, objects), spec.rows, strict=True))
    values = {key: _option(row, column, None) for key, row in rows.items()}
    return [values[id(option)] for option in objects]


def _option(row: Row, column: str, published: Published | None) -> Any:
    """Return what a config column shows of a row; None where the row has no such option."""
    if column == "name":
        return row.name or row.config.model.label
    if column == "paper":
        return (published and published.paper) or ""
    if column in COMPUTED:
        return COMPUTED[column](row.config)
    if (value := config_option(row.config, column)) is not Missing.ABSENT:
        return value
    flat = row.config.flat()
    # A mapping of options, such as `augmentation`, shows the names of those switched on.
    inside = [key.removeprefix(f"{column}.") for key in flat if key.startswith(f"{column}.")]
    if on := [key for key in inside if "." not in key]:
        return on
    switch_of = getattr(row.config, column.rpartition(".")[0], None)
    return False if isinstance(switch_of, tuple) else None


def make_cell(column: str, found: Mapping[int, TrialRow], wanted: int, published: Published | None) -> Cell:
    """Gather one metric of one line.

    Args:
        column: one of `METRICS`.
        found: by seed, the trials of the line that are done.
        wanted: seeds the grid asks for.
        published: what is reported elsewhere for the line.
    """
    metric = METRICS[column]
    measured = [(seed, number(record.get(metric.record))) for seed, record in found.items()]
    values = {seed: value for seed, value in measured if value is not None}
    ours = sorted(values.values())
    median = statistics.median(ours) if ours else None
    given = published.values.get(column) if published else None
    theirs = None if given is None else metric.parse(given)
    text = given if isinstance(given, str) else None if theirs is None else metric.format(theirs)
    runs = published.runs if published and text else None
    return Cell(
        values=values,
        n=len(ours),
        wanted=wanted,
        median=median,
        low=ours[0] if ours else None,
        high=ours[-1] if ours else None,
        std=_deviation(ours) if len(ours) > 1 else None,
        published=theirs,
        published_text=text,
        published_runs=(parse_runs(text) or runs) if text else None,
        difference=median - theirs if metric.is_error and median is not None and theirs is not None else None,
        verdict=_verdict(metric, ours, theirs) if metric.is_error and ours and theirs is not None else None,
    )


def _deviation(values: Sequence[float]) -> float:
    """Return the sample's standard deviation, a hundred times as fast as the exact `statistics.stdev`."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _verdict(metric: Metric, ours: Sequence[float], theirs: float) -> Verdict:
    if len(ours) < MIN_RUNS_OF_A_VERDICT:
        return "too few runs"
    low, published, high = (float(metric.format(value)) for value in (min(ours), theirs, max(ours)))
    return "within spread" if low <= published <= high else "differs"
