"""Records to tables: the median over the seeds beside what was published. Raw values, no layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

from gridrun.cells import Cell, TrialRow, make_cell
from gridrun.columns import COMPUTED, METRICS
from gridrun.garbage import without_garbage_collection
from gridrun.grid.settings import Missing, config_option
from gridrun.notes import NOTED_COLUMNS, hardware_mixture, notes_of, origins_of
from trainer import TrainConfig
from trainer.schema import field_types

if TYPE_CHECKING:
    from pandas import DataFrame

    from gridrun.grid import Grid, Published, Row, TableSpec
    from gridrun.grid.table_specs import Reported, Spread
    from gridrun.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One config of a table, or a row that is only reported elsewhere."""

    config_id: str
    """Empty where no trial stands behind the line."""
    name: str | None
    options: Mapping[str, Any]
    """Value by config column."""
    cells: Mapping[str, Cell]
    """By metric column."""
    trials: Mapping[int, str]
    """Trial id by seed; of the seeds below, each is in exactly one."""
    done: tuple[int, ...]
    diverged: tuple[int, ...]
    failed: tuple[int, ...]
    missing: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table, whole but for its layout."""

    id: str
    title: str
    columns: tuple[str, ...]
    """Names of config options and of `METRICS`, in order."""
    lines: tuple[Line, ...]
    mixed_hardware: bool
    """Times and the like do not compare within the table."""
    notes: tuple[str, ...]
    """What a reader must know beyond the numbers."""
    headers: Mapping[str, str]
    """Of config columns, where they are not the usual ones."""
    spread: Spread | None
    """What cells show of their runs beside the median."""

    @property
    def runs(self) -> int | None:
        """Number of seeds that every row asks for; None where the rows ask for different numbers."""
        numbers = {len(line.trials) for line in self.lines if line.trials}
        return numbers.pop() if len(numbers) == 1 else None

    @property
    def published(self) -> tuple[str, ...]:
        """Metric columns for which some line has a published value."""
        return tuple(
            column
            for column in self.columns
            if any(column in line.cells and line.cells[column].published_text for line in self.lines)
        )

    def to_markdown(self) -> str:
        """Return the table as a README has it."""
        from gridrun.render import to_markdown

        return to_markdown(self)

    def to_frame(self) -> DataFrame:
        """Return the table as a data frame (`gridrun.frames.table_frame` says which columns it has)."""
        from gridrun.frames import table_frame

        return table_frame(self)

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return self.to_markdown()


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
