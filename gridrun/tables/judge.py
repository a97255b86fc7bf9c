"""Verdicts on cells beside a published value: what the difference is worth (docs/statistics.md)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from gridrun import verdicts
from gridrun.metrics import METRICS
from gridrun.text import number_of
from gridrun.verdicts import MIN_DEGREES, Pool, Runs

if TYPE_CHECKING:
    from gridrun.grid import Row, TableSpec
    from gridrun.store import Store
    from gridrun.store.records import Record
    from gridrun.tables.model import Cell, Line
    from trainer import TrainConfig

TestSet = tuple[tuple[str, Any], ...]
"""Options that say which images errors are measured on."""
Pools = Callable[["TrainConfig", str], Pool | None]
"""Returns the spread of all that a store has on a config's test set, by the column of the store."""


def no_pools(config: TrainConfig, column: str) -> Pool | None:
    """Return nothing: there is no store to look into."""
    return None


def pools_of(store: Store) -> Pools:
    """Return a function that pools the whole store; it reads it at its first call."""

    @functools.cache
    def records() -> list[Record]:
        return [record for record in store.records().values() if record.status == "done"]

    @functools.cache
    def pooled(test_set: TestSet, column: str, num_test: int, num_classes: int) -> Pool | None:
        errors: dict[str, list[float]] = {}
        for record in records():
            value = getattr(record, column)
            if value is not None and _test_set(record.config) == test_set:
                errors.setdefault(record.config_id, []).append(value)
        return verdicts.pool(Runs(tuple(row), num_test, num_classes) for row in errors.values())

    def of(config: TrainConfig, column: str) -> Pool | None:
        return pooled(_test_set(config.flat()), column, *_size(config))

    return of


def _test_set(config: Mapping[str, Any]) -> TestSet:
    """Return what tells a test set, of a config as flat options."""
    names = (name for name in config if name.partition(".")[0] in ("dataset", "val_ratio", "val_size"))
    return tuple((name, config[name]) for name in sorted(names) if config[name] is not None)


def _size(config: TrainConfig) -> tuple[int, int]:
    """Return the number of images that errors are measured on, and of classes."""
    spec = config.dataset.spec
    return config.num_held_out or spec.num_test, spec.num_classes


class _Judged(NamedTuple):
    """One spread of a table, and what it is of."""

    spread: Pool
    is_of_store: bool


def judge(spec: TableSpec, lines: Sequence[Line], pools: Pools = no_pools) -> tuple[list[Line], list[str]]:
    """Return a table's lines with verdicts, and notes that say what these rest on.

    Args:
        spec: the table.
        lines: those of its rows, in their order.
        pools: where to look if the table's own runs say too little about their spread.
    """
    found, notes = list(lines), list[str]()
    for column in spec.columns:
        if column not in METRICS or not (METRICS[column].is_error and METRICS[column].is_of_test):
            continue
        wanted = [i for i, line in enumerate(found) if line.cells[column].difference is not None]
        if not wanted:
            continue
        used: dict[TestSet, _Judged | None] = {}
        runs = [_runs(row, line.cells[column], column) for row, line in zip(spec.rows, found, strict=True)]
        test_sets = [_test_set(row.config.flat()) for row in spec.rows]
        for i in wanted:
            if (own := test_sets[i]) not in used:
                same = (one for one, test_set in zip(runs, test_sets, strict=True) if test_set == own)
                used[own] = _spread(verdicts.pool(same), pools, spec.rows[i].config, METRICS[column].record)
            if judged := used[own]:
                cell = _with_verdict(spec, column, found[i].cells[column], runs[i], judged)
                found[i] = replace(found[i], cells={**found[i].cells, column: cell})
        notes += _notes(spec, column, used.values(), [found[i].cells[column] for i in wanted])
    return found, list(dict.fromkeys(notes))


def _runs(row: Row, cell: Cell, column: str) -> Runs:
    return Runs(tuple(_error(column, value) for value in cell.values.values()), *_size(row.config))


def _error(column: str, value: float) -> float:
    """Return the error behind a value: verdicts are those of errors, also beside an accuracy."""
    return 1 - value if METRICS[column].error else value


def _spread(own: Pool | None, pools: Pools, config: TrainConfig, column: str) -> _Judged | None:
    """Return the table's own spread if that has enough runs, else the store's, else None."""
    if own and own.degrees >= MIN_DEGREES:
        return _Judged(own, is_of_store=False)
    whole = pools(config, column)
    return _Judged(whole, is_of_store=True) if whole and whole.degrees >= MIN_DEGREES else None


def _with_verdict(spec: TableSpec, column: str, cell: Cell, runs: Runs, judged: _Judged) -> Cell:
    spread = judged.spread if judged.spread.is_shared else verdicts.own(runs)
    if spread is None or cell.published is None or not runs.is_between:
        return cell
    found = verdicts.compare(runs, _error(column, cell.published), _published_variance(cell), spread)
    tolerance = spec.tolerance / 100
    verdict = found.verdict(tolerance)
    more = verdicts.more_seeds(found, cell.n, tolerance) if verdict == "open" else None
    return replace(cell, half_width=found.half_width(), verdict=verdict, more_seeds=more)


def _published_variance(cell: Cell) -> float:
    """Return the variance of a published value, as a multiple of that of one run; 1 if nothing is said."""
    runs = cell.published_runs or 1
    text = (cell.published_text or "").lower()
    is_mean = any(word in text for word in ("mean", "average", "+/-", "±"))
    return 1 / runs if is_mean else verdicts.median_variance(runs)


def _notes(
    spec: TableSpec, column: str, used: Iterable[_Judged | None], cells: Sequence[Cell]
) -> Iterator[str]:
    """Say what the verdicts of a column rest on."""
    label = METRICS[column].label
    for judged in used:
        if judged is None:
            yield f"no verdicts on {label}: too few runs to know how much it varies from seed to seed"
            continue
        spread, source = judged.spread, " of the whole store" if judged.is_of_store else ""
        rows = number_of(spread.rows, "row") + source
        if spread.is_shared:
            degrees = number_of(spread.degrees, "degree")
            share = f"{spread.phi:.2f} of the binomial variance"
            yield f"{label} from seed to seed: {share}, from {rows} ({degrees} of freedom)"
        else:
            unlike = f"{rows} differ in how much {label} varies from seed to seed (p = {spread.fit:.2g})"
            yield f"{unlike}, so each is judged by its own runs"
    if any(cell.verdict for cell in cells):
        words = "better or worse if it leaves out 0, else open"
        within = f"reproduced if the 95 % interval lies within ±{spec.tolerance:g} points"
        yield f"Verdict: {within}, {words}"
