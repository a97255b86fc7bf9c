"""Verdicts on cells beside a published value or another row: what differences are worth.

docs/statistics.md explains them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from gridrun import verdicts
from gridrun.grid.looks import AdaptiveSeeds
from gridrun.grid.settings import freeze
from gridrun.metrics import METRICS, metric_of
from gridrun.tables.model import Against, Cell
from gridrun.text import number_of
from gridrun.verdicts import MIN_DEGREES, Pool, Runs

if TYPE_CHECKING:
    from gridrun.grid import Row, TableSpec
    from gridrun.store import Store
    from gridrun.store.records import Record
    from gridrun.tables.model import Line
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
    def pooled(test_set: TestSet, column: str, *size: int) -> Pool | None:
        errors: dict[str, list[float]] = {}
        for record in records():
            value = getattr(record, column)
            if value is not None and test_set_of(record.config) == test_set:
                errors.setdefault(record.config_id, []).append(value)
        return verdicts.pool(Runs(tuple(row), *size) for row in errors.values())

    def of(config: TrainConfig, column: str) -> Pool | None:
        return pooled(test_set_of(config.flat()), column, *size_of(config, column))

    return of


def test_set_of(config: Mapping[str, Any]) -> TestSet:
    """Return what tells a test set, of a config as flat options."""
    names = (name for name in config if name.partition(".")[0] in ("dataset", "val_ratio", "val_size"))
    return tuple((name, freeze(config[name])) for name in sorted(names) if config[name] is not None)


def size_of(config: TrainConfig, column: str = "test_error") -> tuple[int, int, int]:
    """Return how many images errors are measured on, of how many classes, and how many each may be named."""
    spec = config.dataset.spec
    return config.num_held_out or spec.num_test, spec.num_classes, METRICS[column].guesses


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
    for column in filter(is_judged, spec.columns):
        judge_of = _Column(spec, column, found, pools)
        cells = judge_of.cells()
        found = [
            replace(line, cells={**line.cells, column: cell}) for line, cell in zip(found, cells, strict=True)
        ]
        notes += judge_of.notes(cells)
    return found, list(dict.fromkeys(notes))


def is_judged(column: str) -> bool:
    """Return whether a column is an error on test images, or an accuracy."""
    return column in METRICS and METRICS[column].is_error and METRICS[column].is_of_test


class _Column:
    """Judges one column of a table: the runs of its rows, and what they vary by from seed to seed."""

    def __init__(self, spec: TableSpec, column: str, lines: Sequence[Line], pools: Pools) -> None:
        self._spec, self._column, self._pools = spec, column, pools
        self._tolerance = spec.tolerance / 100
        self._cells = [line.cells[column] for line in lines]
        self._runs = [_runs(row, cell, column) for row, cell in zip(spec.rows, self._cells, strict=True)]
        self._test_sets = [test_set_of(row.config.flat()) for row in spec.rows]
        self._used: dict[TestSet, _Judged | None] = {}
        self._is_unmarked = False

    def cells(self) -> list[Cell]:
        """Return the cells with all that can be said about them."""
        cells = [self._against_published(i, cell) for i, cell in enumerate(self._cells)]
        if self._spec.compare:
            places = {row.config_id: i for i, row in enumerate(self._spec.rows)}
            for ours, theirs in self._spec.compare.baselines.items():
                i, j = places[ours], places[theirs]
                cells[i] = self._against_row(i, j, cells[i])
        if self._spec.mark_best:
            for test_set in dict.fromkeys(self._test_sets):
                same = [i for i, own in enumerate(self._test_sets) if own == test_set]
                for i, is_best in self._best(same).items():
                    cells[i] = replace(cells[i], is_best=is_best)
        return cells

    def _against_published(self, i: int, cell: Cell) -> Cell:
        spread = self._spread(i) if cell.difference is not None else None
        if spread is None or cell.published is None:
            return cell
        theirs = _error(self._column, cell.published)
        found = verdicts.compare(self._runs[i], theirs, _published_variance(cell), spread)
        confidence, more = self._spec.rows[i].confidence, None
        verdict = found.verdict(self._tolerance, confidence)
        if verdict == "open":
            more = verdicts.more_seeds(found, cell.n, self._tolerance, confidence=confidence)
        return replace(cell, half_width=found.half_width(confidence), verdict=verdict, more_seeds=more)

    def _against_row(self, i: int, j: int, cell: Cell) -> Cell:
        """Return the cell of row `i` with what it differs by from row `j`."""
        theirs = self._cells[j].median
        if cell.median is None or theirs is None:
            return cell
        against = Against(median=theirs, difference=cell.median - theirs)
        ours, other = self._spread(i), self._spread(j)
        if ours and other and self._test_sets[i] == self._test_sets[j]:
            found = verdicts.compare_rows(self._runs[i], self._runs[j], ours, other)
            confidence, more = max(self._spec.rows[k].confidence for k in (i, j)), None
            verdict = found.verdict(self._tolerance, confidence)
            if verdict == "open":
                runs = self._cells[j].n
                more = verdicts.more_seeds(found, cell.n, self._tolerance, other=runs, confidence=confidence)
            against = replace(
                against, half_width=found.half_width(confidence), verdict=verdict, more_seeds=more
            )
        return replace(cell, against=against)

    def _best(self, rows: Sequence[int]) -> dict[int, bool]:
        """Return for each of some rows of one test set whether it is the best or cannot be told from it."""
        trained = [i for i in rows if self._runs[i].errors]
        spreads = {i: spread for i in trained if (spread := self._spread(i))}
        if len(spreads) < 2 or any(self._runs[i].mean == 0 for i in trained):
            self._is_unmarked |= len(trained) > 1
            return {}
        known = list(spreads)
        best = verdicts.best_rows([self._runs[i] for i in known], list(spreads.values()))
        return {i: place in best for place, i in enumerate(known)}

    def _spread(self, i: int) -> Pool | None:
        """Return what the runs of a row vary by; None where nobody can tell, or the row has not learnt."""
        own = self._test_sets[i]
        if own not in self._used:
            same = (one for one, other in zip(self._runs, self._test_sets, strict=True) if other == own)
            config, record = self._spec.rows[i].config, METRICS[self._column].record
            self._used[own] = _spread(verdicts.pool(same), self._pools, config, record)
        judged, runs = self._used[own], self._runs[i]
        if judged is None or not runs.errors or not runs.is_between:
            return None
        return judged.spread if judged.spread.is_shared else verdicts.own(runs)

    def notes(self, cells: Sequence[Cell]) -> Iterator[str]:
        """Say what the verdicts rest on."""
        label = metric_of(self._column, held_out=self._spec.held_out).label
        tolerance = f"±{self._spec.tolerance:g} points"
        for judged in self._used.values():
            yield _note_on(judged, label)
        looks = {row.seeds.looks: None for row in self._spec.rows if isinstance(row.seeds, AdaptiveSeeds)}
        for numbers in looks:
            told = " ".join(map(str, numbers))
            got = f"a row got more seeds while a verdict on it was open, with looks at {told} seeds"
            yield f"seeds: auto: {got}; intervals are wider, so that the 95 % hold for all looks together"
        if any(cell.verdict for cell in cells):
            words = "better or worse if it leaves out 0, else open"
            yield f"Verdict: reproduced if the 95 % interval lies within {tolerance}, {words}"
        if any(cell.against and cell.against.verdict for cell in cells):
            words = "better or worse if it leaves out 0, else open"
            yield f"Verdict against a row: equivalent if the 95 % interval lies within {tolerance}, {words}"
        if self._spec.mark_best:
            yield from self._best_notes(label, cells)

    def _best_notes(self, label: str, cells: Sequence[Cell]) -> Iterator[str]:
        if any(cell.is_best is not None for cell in cells):
            each = " of each test set" if len(set(self._test_sets)) > 1 else ""
            pairs = "all pairs of rows compared at 5 % (Holm)"
            yield f"bold, or ←: the lowest {label}{each} and all that cannot be told from it, {pairs}"
            left = sum(cell.is_best is None and cell.n > 0 for cell in cells)
            if left and not self._is_unmarked:
                rows = number_of(left, "row")
                yield f"{rows} not compared for the lowest {label}: too few runs, or not learnt"
        if self._is_unmarked:
            why = "too few rows can be compared, or one has no error at all"
            yield f"no lowest {label} is marked where {why}"


def _runs(row: Row, cell: Cell, column: str) -> Runs:
    return Runs(tuple(_error(column, value) for value in cell.values.values()), *size_of(row.config, column))


def _error(column: str, value: float) -> float:
    """Return the error behind a value: verdicts are those of errors, also beside an accuracy."""
    return 1 - value if METRICS[column].error else value


def _spread(own: Pool | None, pools: Pools, config: TrainConfig, column: str) -> _Judged | None:
    """Return the table's own spread if that has enough runs, else the store's, else None."""
    if own and own.degrees >= MIN_DEGREES:
        return _Judged(own, is_of_store=False)
    whole = pools(config, column)
    return _Judged(whole, is_of_store=True) if whole and whole.degrees >= MIN_DEGREES else None


def _published_variance(cell: Cell) -> float:
    """Return the variance of a published value, as a multiple of that of one run; 1 if nothing is said."""
    runs = cell.published_runs or 1
    text = (cell.published_text or "").lower()
    is_mean = any(word in text for word in ("mean", "average", "+/-", "±"))
    return 1 / runs if is_mean else verdicts.median_variance(runs)


def _note_on(judged: _Judged | None, label: str) -> str:
    """Say how much runs vary from seed to seed, and how it is known."""
    if judged is None:
        return f"no verdicts on {label}: too few runs to know how much it varies from seed to seed"
    spread, source = judged.spread, " of the whole store" if judged.is_of_store else ""
    rows = number_of(spread.rows, "row") + source
    if spread.is_shared:
        degrees = number_of(spread.degrees, "degree")
        share = f"{spread.phi:.2f} of the binomial variance"
        return f"{label} from seed to seed: {share}, from {rows} ({degrees} of freedom)"
    unlike = f"{rows} differ in how much {label} varies from seed to seed (p = {spread.fit:.2g})"
    return f"{unlike}, so each is judged by its own runs"
