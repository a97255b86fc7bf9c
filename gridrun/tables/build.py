"""From records to tables: the median over the seeds beside what was published."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gridrun.metrics import ACCURACIES, METRICS, complement, parse_runs
from gridrun.tables.judge import Pools, judge, no_pools, pools_of
from gridrun.tables.model import Cell, Line, Table
from gridrun.tables.notes import NOTED_COLUMNS, notes_of, origins_of, published_notes, speed_mixture

if TYPE_CHECKING:
    from gridrun.grid import Grid, Published, Row, TableSpec
    from gridrun.grid.table_specs import Reported
    from gridrun.store import Store
    from gridrun.store.records import Record


def tables_of(grids: Sequence[Grid], store: Store) -> list[Table]:
    """Build every table of some grids from what is stored. Raises StoreError."""
    specs = [spec for grid in grids for spec in grid.tables]
    metrics = [METRICS[column] for spec in specs for column in spec.columns if column in METRICS]
    shown = {name for metric in metrics for name in metric.reads or (metric.record,)}
    trial_ids = [trial_id for grid in grids for row in grid.rows for trial_id in row.trial_ids]
    records = store.records(trial_ids, NOTED_COLUMNS | shown)
    pools = pools_of(store)
    return [build_table(spec, records, pools) for spec in specs]


def build_table(spec: TableSpec, records: Mapping[str, Record], pools: Pools = no_pools) -> Table:
    """Build one table from the trials that have ended, by trial id; those of other tables are ignored.

    `pools` is asked for the spread of runs where the table has too few of its own.
    """
    lines, verdict_notes = judge(spec, [_line(spec, row, records) for row in spec.rows], pools)
    origins = origins_of(records[line.trials[seed]] for line in lines for seed in line.done)
    told = tuple(published_notes(spec, lines, verdict_notes))
    return Table(
        id=spec.id,
        title=spec.title,
        columns=tuple(spec.columns),
        lines=(*lines, *(_reported_line(spec.columns, row) for row in spec.reported)),
        mixed_hardware=speed_mixture(origins) is not None,
        notes=(*notes_of(spec, lines, records, origins), *told),
        published_notes=told,
        headers=spec.headers,
        spread=spec.spread,
        compared_with=spec.compare.label if spec.compare else None,
        held_out=spec.held_out,
    )


def _line(spec: TableSpec, row: Row, records: Mapping[str, Record]) -> Line:
    trials = dict(zip(row.seeds, row.trial_ids, strict=True))
    seeds: dict[str, list[int]] = {"done": [], "diverged": [], "failed": [], "missing": []}
    for seed, trial_id in trials.items():
        record = records.get(trial_id)
        status = record.status if record else "missing"
        seeds[status if status in seeds else "missing"].append(seed)
    done = [(seed, records[trials[seed]]) for seed in seeds["done"]]
    published = spec.published.get(row.config_id)
    options, cells = {}, {}
    for column in spec.columns:
        if column in METRICS:
            value_of = METRICS[column].value_of
            values = {seed: value for seed, one in done if (value := value_of(one)) is not None}
            cells[column] = make_cell(column, values, len(trials), published)
        elif column == "paper":
            options[column] = (published and published.paper) or ""
        else:
            options[column] = row.column(column)
    return Line(
        config_id=row.config_id,
        name=row.name,
        options=options,
        cells=cells,
        trials=trials,
        **{status: tuple(of_status) for status, of_status in seeds.items()},
    )


def _reported_line(columns: Sequence[str], row: Reported) -> Line:
    return Line(
        config_id="",
        name=None,
        options={column: row.options.get(column, "") for column in columns if column not in METRICS},
        cells={column: make_cell(column, {}, 0, row.published) for column in columns if column in METRICS},
    )


def make_cell(column: str, values: Mapping[int, float], wanted: int, published: Published | None) -> Cell:
    """Make the cell of one metric in one line. `values` are those of the done trials, by seed."""
    metric = METRICS[column]
    ours = sorted(values.values())
    median = statistics.median(ours) if ours else None
    given = _published_value(column, published)
    theirs = None if given is None else metric.parse(given)
    text = given if isinstance(given, str) else None if theirs is None else metric.format(theirs)
    return Cell(
        values=values,
        n=len(ours),
        wanted=wanted,
        median=median,
        low=ours[0] if ours else None,
        high=ours[-1] if ours else None,
        std=_standard_deviation(ours) if len(ours) > 1 else None,
        published=theirs,
        published_text=text,
        published_runs=(parse_runs(text) or published.runs) if published and text else None,
        difference=median - theirs if metric.is_error and median is not None and theirs is not None else None,
    )


def _published_value(column: str, published: Published | None) -> float | str | None:
    """Return the published value as it is given, or else the accuracy of a published error or its error."""
    values = published.values if published else {}
    if column in values:
        return values[column]
    other = METRICS[column].error or ACCURACIES.get(column, "")
    return complement(values[other]) if other in values else None


def _standard_deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of the sample; `statistics.stdev` takes a hundred times as long."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
