"""Records to tables: the median over the seeds beside what was published. Raw values, no layout."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gridrun.columns import COMPUTED, METRICS, Metric, format_column, header_of, parse_runs

if TYPE_CHECKING:
    from pandas import DataFrame

    from gridrun.grid import Published, Row, TableSpec
    from gridrun.grid.table_specs import Reported, Spread

TrialRow = Mapping[str, Any]
"""A trial as the store's row (`Record.row`)."""
Verdict = Literal["within spread", "differs", "too few runs"]
"""Whether a published value lies between our lowest and highest run, both as printed."""
MIN_RUNS_OF_A_VERDICT = 3
"""Two runs are hardly a spread."""
UNKNOWN = "unknown"
"""Stands in notes for provenance that was not to be had."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One metric of one line, in the unit of the store: errors are fractions, times seconds."""

    values: Mapping[int, float]
    """By seed, of the trials that are done."""
    n: int
    wanted: int
    """Seeds the grid asks for."""
    median: float | None
    """Over `values`; of an even count the mean of the middle two. None where nothing ran."""
    low: float | None
    high: float | None
    std: float | None
    """Of the sample (n - 1); None below two values."""
    published: float | None
    """None where nothing is published, or not as one number."""
    published_text: str | None
    """As printed."""
    published_runs: int | None
    difference: float | None
    """Errors only: median - published."""
    verdict: Verdict | None
    """Errors only; None where there is nothing to compare."""


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


def build_table(spec: TableSpec, records: Mapping[str, TrialRow]) -> Table:
    """Gather a table from the trials that have ended.

    Args:
        spec: rows with their seeds, columns and published values, as a grid file gives them.
        records: rows of the store by trial id; those of other tables are ignored.
    """
    lines = tuple(_line(spec, row, records) for row in spec.rows)
    reported = tuple(_reported_line(spec.columns, row) for row in spec.reported)
    done = [records[line.trials[seed]] for line in lines for seed in line.done]
    hardware = _mixture(map(_hardware, done))
    return Table(
        id=spec.id,
        title=spec.title,
        columns=tuple(spec.columns),
        lines=(*lines, *reported),
        mixed_hardware=hardware is not None,
        notes=(
            *_ending_notes(spec.columns, lines),
            *provenance_notes(spec.columns, done),
            *_published_notes(spec, lines),
            *_reported_notes(len(reported), len(lines)),
        ),
        headers=spec.headers,
        spread=spec.spread,
    )


def _line(spec: TableSpec, row: Row, records: Mapping[str, TrialRow]) -> Line:
    trials = {trial.seed: trial.trial_id for trial in row.trials}
    status = {seed: records[trial]["status"] for seed, trial in trials.items() if trial in records}

    def ended(how: str) -> tuple[int, ...]:
        return tuple(seed for seed in trials if status.get(seed) == how)

    done, diverged, failed = ended("done"), ended("diverged"), ended("failed")
    found = {seed: records[trials[seed]] for seed in done}
    published = spec.published.get(row.config_id)
    return Line(
        config_id=row.config_id,
        name=row.name,
        options={c: _option(row, c, published) for c in spec.columns if c not in METRICS},
        cells=_cells(spec.columns, found, len(trials), published),
        trials=trials,
        done=done,
        diverged=diverged,
        failed=failed,
        missing=tuple(seed for seed in trials if seed not in {*done, *diverged, *failed}),
    )


def _reported_line(columns: Sequence[str], row: Reported) -> Line:
    return Line(
        config_id="",
        name=None,
        options={column: row.options.get(column, "") for column in columns if column not in METRICS},
        cells=_cells(columns, {}, 0, row.published),
        trials={},
        done=(),
        diverged=(),
        failed=(),
        missing=(),
    )


def _cells(
    columns: Sequence[str], found: Mapping[int, TrialRow], wanted: int, published: Published | None
) -> dict[str, Cell]:
    return {c: _cell(METRICS[c], found, wanted, published, c) for c in columns if c in METRICS}


def _option(row: Row, column: str, published: Published | None) -> Any:
    """Return what a config column shows of a row; None where the row has no such option."""
    if column == "name":
        return row.name or row.config.model.label
    if column == "paper":
        return (published and published.paper) or ""
    if column in COMPUTED:
        return COMPUTED[column](row.config)
    flat = row.config.flat()
    if column in flat:
        return flat[column]
    # A mapping of options, such as `augmentation`, shows the names of those switched on.
    inside = [key.removeprefix(f"{column}.") for key in flat if key.startswith(f"{column}.")]
    if on := [key for key in inside if "." not in key]:
        return on
    switch_of = getattr(row.config, column.rpartition(".")[0], None)
    return False if isinstance(switch_of, tuple) else None


def _cell(
    metric: Metric, found: Mapping[int, TrialRow], wanted: int, published: Published | None, column: str
) -> Cell:
    measured = {seed: _number(record.get(metric.record)) for seed, record in found.items()}
    values = {seed: value for seed, value in measured.items() if value is not None}
    ours = list(values.values())
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
        low=min(ours, default=None),
        high=max(ours, default=None),
        std=statistics.stdev(ours) if len(ours) > 1 else None,
        published=theirs,
        published_text=text,
        published_runs=(parse_runs(text) or runs) if text else None,
        difference=median - theirs if metric.is_error and median is not None and theirs is not None else None,
        verdict=_verdict(metric, ours, theirs) if metric.is_error and ours and theirs is not None else None,
    )


def _verdict(metric: Metric, ours: Sequence[float], theirs: float) -> Verdict:
    if len(ours) < MIN_RUNS_OF_A_VERDICT:
        return "too few runs"
    low, published, high = (float(metric.format(value)) for value in (min(ours), theirs, max(ours)))
    return "within spread" if low <= published <= high else "differs"


def _number(value: Any) -> float | None:
    """Return a measured value, None where there is none: a column of a data frame has NaN there."""
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


# --- notes -------------------------------------------------------------------------------------


def _ending_notes(columns: Sequence[str], lines: Sequence[Line]) -> Iterable[str]:
    """Name the trials that diverged or failed, and count those that have not run."""
    label = _labels(columns, lines)
    for status in ("diverged", "failed"):
        for line in lines:
            if seeds := getattr(line, status):
                yield f"{status}: {label[line.config_id]} ({_counted_seeds(seeds)})"
    missing = sum(len(line.missing) for line in lines)
    wanted = sum(len(line.trials) for line in lines)
    if missing:
        yield "not run yet" + (f": {missing} of {_counted(wanted, 'trial')}" if missing < wanted else "")


def provenance_notes(columns: Sequence[str], done: Sequence[TrialRow]) -> Iterable[str]:
    """Say where trials that are shown together come from different hardware or code."""
    yield from _hardware_notes(columns, done, _mixture(map(_hardware, done)))
    yield from _code_notes(columns, done)


def _hardware_notes(columns: Sequence[str], done: Sequence[TrialRow], mixture: str | None) -> Iterable[str]:
    bound = [
        METRICS[column].header for column in columns if column in METRICS and not METRICS[column].portable
    ]
    if mixture and bound:
        yield f"* {', '.join(bound)}: not comparable between rows, trained on different hardware: {mixture}"
    elif mixture:
        yield f"trained on different hardware: {mixture}"
    elif bound and done:
        yield f"{', '.join(bound)}: on {_hardware(done[0])}"


def _code_notes(columns: Sequence[str], done: Sequence[TrialRow]) -> Iterable[str]:
    """Say where the trials differ in what computed them."""
    if "precision" not in columns and (mixture := _mixture(_known(r, "precision") for r in done)):
        yield f"different precisions: {mixture}"
    if mixture := _mixture(_known(record, "commit")[:10] for record in done):
        yield f"different commits: {mixture}"
    if dirty := sum(record.get("dirty") is True for record in done):
        yield f"uncommitted changes in the code of {dirty} of {_counted(len(done), 'trial')}"
    if mixture := _mixture(_known(record, "torch_version") for record in done):
        yield f"different torch versions: {mixture}"


def _published_notes(spec: TableSpec, lines: Sequence[Line]) -> Iterable[str]:
    shown = [line for line in lines if any(cell.published_text for cell in line.cells.values())]
    bound = [
        METRICS[column].header
        for column in spec.columns
        if column in METRICS
        and not METRICS[column].portable
        and any(line.cells[column].published_text for line in shown)
    ]
    if bound:
        yield f"published {', '.join(bound)}: on the authors' own hardware, so no difference is shown"
    label = _labels(spec.columns, lines)
    by_note: dict[str, list[str]] = {}
    for line in shown:
        if note := spec.published[line.config_id].note:
            by_note.setdefault(note, []).append(label[line.config_id])
    if any(cell.verdict for line in shown for cell in line.cells.values()):
        yield (
            "Verdict: whether the published value lies between our lowest and highest run, "
            f"of at least {MIN_RUNS_OF_A_VERDICT}"
        )
    for note, labels in by_note.items():
        yield f"published: {note}" if len(labels) == len(shown) else f"published, {'; '.join(labels)}: {note}"


def _reported_notes(count: int, trained: int) -> Iterable[str]:
    if count:
        which = f"the last {_counted(count, 'row')}" if trained else "every row"
        yield f"{which}: as published, not trained here"


def _labels(columns: Sequence[str], lines: Sequence[Line]) -> dict[str, str]:
    """Say each line's config in words: the columns in which the table's lines differ."""
    options = [column for column in columns if column not in METRICS and column != "paper"]
    varying = [c for c in options if len({format_column(c, line.options[c]) for line in lines}) > 1]

    def words(line: Line, column: str) -> str:
        value = format_column(column, line.options[column])
        return value if column in ("model", "name") else f"{header_of(column)} {value}"

    return {
        line.config_id: ", ".join(words(line, column) for column in varying or options[:1])
        or line.name
        or f"config {line.config_id}"
        for line in lines
    }


def _hardware(record: TrialRow) -> str:
    """Name what a trial's speed depends on: the GPU, or the CPU and its share of it."""
    gpu, device = _known(record, "gpu"), _known(record, "device")
    if gpu != UNKNOWN and not device.startswith("cpu"):
        return gpu
    threads = _number(record.get("threads"))
    cpu = _known(record, "cpu")
    return f"{cpu}, {_counted(int(threads), 'thread')}" if threads else cpu


def _known(record: TrialRow, key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) and value else UNKNOWN


def _mixture(values: Iterable[str]) -> str | None:
    """Count trials by value, the most frequent first; None unless there are two values or more."""
    counts = Counter(values).most_common()
    return ", ".join(f"{value} ({_counted(n, 'trial')})" for value, n in counts) if len(counts) > 1 else None


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _counted_seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
