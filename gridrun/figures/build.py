"""Stored runs to figures: medians over the seeds, their spread, and notes on what is missing. No drawing."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gridrun.figures.labels import (
    METRIC_AXES,
    METRIC_LABELS,
    UNITS,
    capitalized,
    option_header,
    options_label,
    short_label,
)
from gridrun.figures.model import CROSS, Axis, Figure, Panel, Point, Series
from gridrun.grid.plot_specs import EPOCH_METRICS, PlotSpec, is_number
from gridrun.grid.table_specs import TableSpec
from gridrun.metrics import METRICS
from gridrun.store.records import Record, measurement
from gridrun.tables.build import build_table
from gridrun.tables.model import Line
from gridrun.tables.notes import origins_of, provenance_notes, tta_notes
from gridrun.text import number_of

if TYPE_CHECKING:
    from gridrun.grid import Row

EpochRows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Epochs of each trial, in order, by trial id (`Store.epochs`)."""
LOG_FACTOR = 8
"""Curves get a logarithmic axis from this ratio of their largest and smallest value on."""
MAX_NAMED = 2
"""Rows without all their runs that a note names. More are only counted."""


def build_figure(spec: PlotSpec, records: Mapping[str, Record], epochs: EpochRows) -> Figure:
    """Build a figure from the trials that have ended; others are ignored. Only curves need `epochs`."""
    metrics = ("test_error",) if spec.kind == "curves" else spec.y
    table = build_table(
        TableSpec(
            id=spec.id,
            title=spec.title,
            rows=spec.rows,
            columns=metrics,
            published=spec.published,
            reported=(),
            headers={},
        ),
        records,
    )
    pairs = list(zip(spec.rows, table.lines, strict=True))
    held_out = bool(pairs) and all(row.config.num_held_out for row in spec.rows)
    positions = _Positions(spec)
    if spec.kind == "curves":
        x = Axis(label="Epoch", log=spec.log_x)
        y_label = METRIC_AXES[spec.y[0] if len(spec.y) == 1 else EPOCH_METRICS[spec.y[0]]]
        made = [(row, one) for row, line in pairs for one in _curves(spec, row, line, positions, epochs)]
    else:
        scale, y_label = _scale(spec.y[0], table.lines)
        x = _x_axis(spec, positions)
        made = [(row, one) for row, line in pairs for one in _points(spec, row, line, positions, scale)]
    if held_out:
        y_label = y_label.replace("Test", "Validation").replace("test", "validation")
    zeros = [point.median == 0 for _, series in made for point in series.points if point.median is not None]
    wants_log = _spans_factors(spec, made) if spec.log_y is None else spec.log_y
    log_y = wants_log and not all(zeros)
    done = (records[line.trials[seed]] for _, line in pairs for seed in line.done)
    return Figure(
        id=spec.id,
        title=spec.title,
        kind=spec.kind,
        x=x,
        y=Axis(label=y_label, log=log_y),
        legend=option_header(spec.by[0]) if len(spec.by) == 1 else "",
        labels=tuple(positions.labels.values()),
        ordered=positions.ordered,
        metrics={metric: METRIC_LABELS[metric] for metric in spec.y} if len(spec.y) > 1 else {},
        panels=tuple(
            Panel(title=title, series=_joined(one for row, one in made if positions.panel(row) == title))
            for title in positions.panels
        ),
        notes=(
            *_run_notes(spec, table.lines),
            *tta_notes(
                spec.y, ((row.config, options_label(row, spec.keys)) for row, line in pairs if line.done)
            ),
            *(
                [f"below the axis, as they are 0: {number_of(sum(zeros), 'point')}"]
                if log_y and any(zeros)
                else ()
            ),
            *_published_notes(spec, made),
            *provenance_notes((*spec.keys, *spec.y), origins_of(done)),
        ),
    )


def _spans_factors(spec: PlotSpec, made: Iterable[tuple[Row, Series]]) -> bool:
    """Return whether values of curves are so far apart that a linear axis would hide the smaller ones."""
    medians = [point.median for _, series in made for point in series.points if series.role == "measured"]
    values = [value for value in medians if value is not None]
    return spec.kind == "curves" and min(values, default=0) > 0 and max(values) >= LOG_FACTOR * min(values)


class _Positions:
    """The panel, the series and the bar of each row."""

    def __init__(self, spec: PlotSpec) -> None:
        self._spec = spec
        values = {self.label(row): [row.column(key) for key in spec.by] for row in spec.rows}
        numbers = len(spec.by) == 1 and all(is_number(value) for (value,) in values.values())
        self.ordered = numbers and len(values) > 2
        labels = list(values)
        if numbers:
            labels.sort(key=lambda label: values[label][0])
        self.labels = {label: label or spec.title for label in labels}
        self.index = {label: index for index, label in enumerate(labels)}
        self.panels = list(dict.fromkeys(map(self.panel, spec.rows)))
        self.bars = list(dict.fromkeys(map(self._bar, spec.rows)))

    def label(self, row: Row) -> str:
        """Return the label of the row's series."""
        return short_label(row, self._spec.by)

    def _bar(self, row: Row) -> str:
        return short_label(row, self._spec.x)

    def panel(self, row: Row) -> str:
        """Return the title of the row's panel."""
        return options_label(row, self._spec.panels)

    def x(self, row: Row) -> float:
        """Return the row's value on the x axis; of a bar, the index of its name."""
        if self._spec.kind == "bars":
            return self.bars.index(self._bar(row))
        x = row.column(self._spec.x[0])
        assert isinstance(x, (int, float))
        return x


def _x_axis(spec: PlotSpec, positions: _Positions) -> Axis:
    if spec.kind == "bars":
        named = len(spec.x) == 1 and spec.x != ("name",)
        return Axis(label=capitalized(option_header(spec.x[0])) if named else "", names=tuple(positions.bars))
    unit = f" ({UNITS[spec.x[0]]})" if spec.x[0] in UNITS else ""
    ticks = tuple(sorted({positions.x(row) for row in spec.rows}))
    return Axis(label=capitalized(option_header(spec.x[0])) + unit, log=spec.log_x, ticks=ticks)


def _points(spec: PlotSpec, row: Row, line: Line, positions: _Positions, scale: float) -> Iterable[Series]:
    """Yield a row's point, and its published value, each as a series of one point."""
    (metric,) = spec.y
    cell, x = line.cells[metric], positions.x(row)
    index = positions.index[positions.label(row)]
    yield Series(
        role="measured",
        index=index,
        metric=metric,
        points=(
            Point(
                x=x,
                median=_scaled(cell.median, scale),
                low=_scaled(cell.low, scale),
                high=_scaled(cell.high, scale),
                n=cell.n,
                wanted=cell.wanted,
                diverged=len(line.diverged),
            ),
        ),
    )
    if METRICS[metric].is_error and cell.published is not None:
        yield _published(index, metric, x, cell.published, cell.published_runs)


def _published(index: int, metric: str, x: float, fraction: float, runs: int | None) -> Series:
    value = _scaled(fraction, 100.0)
    point = Point(x=x, median=value, low=value, high=value, n=runs or 0, wanted=runs or 0)
    return Series(role="published", index=index, metric=metric, points=(point,))


def _curves(
    spec: PlotSpec, row: Row, line: Line, positions: _Positions, epochs: EpochRows
) -> Iterable[Series]:
    """Yield a row's curves: one of all runs that are done, and one of each run that diverged."""
    index = positions.index[positions.label(row)]
    for metric in spec.y:
        scale = 100.0 if EPOCH_METRICS[metric] == "error" else 1.0
        done = [epochs.get(line.trials[seed], ()) for seed in line.done]
        by_epoch: dict[int, list[float]] = {}
        for run in done:
            for epoch, value in _finite(run, metric, scale):
                by_epoch.setdefault(epoch, []).append(value)
        points = tuple(
            Point(
                x=epoch,
                median=statistics.median(values),
                low=min(values),
                high=max(values),
                n=len(values),
                wanted=len(line.trials),
            )
            for epoch, values in sorted(by_epoch.items())
        )
        if points:
            yield Series(role="measured", index=index, metric=metric, points=points)
        for seed in line.diverged:
            run = epochs.get(line.trials[seed], ())
            points = tuple(
                Point(x=epoch, median=value, low=value, high=value, n=0, wanted=1, diverged=1)
                for epoch, value in _finite(run, metric, scale)
            )
            if points:
                yield Series(role="diverged", index=index, metric=metric, points=points)
    cell = line.cells["test_error"]
    if "test_error" in spec.y and cell.published is not None:
        yield _published(index, "test_error", row.config.epochs, cell.published, cell.published_runs)


def _finite(run: Sequence[Mapping[str, Any]], metric: str, scale: float) -> Iterable[tuple[int, float]]:
    for epoch in run:
        at, value = measurement(epoch["epoch"]), measurement(epoch[metric])
        if at is not None and value is not None:
            yield int(at), _number(value * scale)


def _joined(series: Iterable[Series]) -> tuple[Series, ...]:
    """Merge the series of one label and metric, their points in order. Runs that diverged stay apart."""
    points: dict[tuple[Any, ...], list[Point]] = {}
    diverged: list[Series] = []
    for one in series:
        if one.role == "diverged":
            diverged.append(one)
        else:
            points.setdefault((one.role, one.index, one.metric), []).extend(one.points)
    joined = [
        Series(role=role, index=index, metric=metric, points=tuple(sorted(found, key=lambda point: point.x)))
        for (role, index, metric), found in points.items()
    ]
    return tuple(sorted((*joined, *diverged), key=lambda one: (one.index, one.metric, one.role)))


def _run_notes(spec: PlotSpec, lines: Sequence[Line]) -> Iterable[str]:
    """Yield how many runs a median is of, and which runs are missing."""
    counts = sorted({len(line.done) for line in lines if line.done})
    spread = {"line": "bars", "curves": "band", "bars": "whiskers"}[spec.kind]
    if counts and counts[-1] == 1:
        yield "1 run" if len(lines) == 1 else "1 run each"
    elif counts:
        runs = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
        yield f"median of {runs} runs, {spread} from the lowest to the highest"
    ended: tuple[tuple[str, Callable[[Line], Sequence[int]]], ...] = (
        ("not run yet", lambda line: line.missing),
        (f"diverged ({CROSS})", lambda line: line.diverged),
        ("failed", lambda line: line.failed),
    )
    wanted = sum(len(line.trials) for line in lines)
    for what, seeds in ended:
        if not (count := sum(len(seeds(line)) for line in lines)):
            continue
        rows = [row for row, line in zip(spec.rows, lines, strict=True) if seeds(line)]
        named = "; ".join(options_label(row, spec.keys) for row in rows)
        names_them = named and len(rows) <= MAX_NAMED < len(lines)
        yield f"{what}: {count} of {number_of(wanted, 'run')}" + (f" ({named})" if names_them else "")


def _published_notes(spec: PlotSpec, made: Sequence[tuple[Row, Series]]) -> Iterable[str]:
    """Yield how many runs the published values are of, where that is known, and their source."""
    points = [point for _, series in made if series.role == "published" for point in series.points]
    if not points:
        return
    runs = sorted({point.n for point in points if point.n})
    counted = f"{runs[0]} to {runs[-1]}" if len(runs) > 1 else "".join(map(str, runs))
    parts = [f"{counted} {'run' if runs[-1] == 1 else 'runs'}"] if runs else []
    if parts := [*parts, *([spec.source] if spec.source else [])]:
        yield f"published: {', '.join(parts)}"


def _scale(metric: str, lines: Sequence[Line]) -> tuple[float, str]:
    """Return the factor from the store's unit to the axis's, and the axis's label."""
    if METRICS[metric].suffix == "_s":
        longest = max((line.cells[metric].high or 0 for line in lines), default=0)
        seconds, unit = next(
            (each for each in ((3600.0, "h"), (60.0, "min")) if longest >= 2 * each[0]), (1.0, "s")
        )
        return 1 / seconds, f"{METRIC_AXES[metric]} ({unit})"
    return METRICS[metric].scale, METRIC_AXES.get(metric, METRICS[metric].header)


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else _number(value * scale)


def _number(value: float) -> float:
    """Round away binary noise: 5.000000000000001 becomes 5.0."""
    return float(f"{value:.12g}")
