"""Two rows, grids, stores or commits, row by row: what the differences are worth (docs/statistics.md)."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridrun import verdicts
from gridrun.errors import GridrunError
from gridrun.grid.describe import describe_options, varying_columns
from gridrun.grid.settings import freeze
from gridrun.paired import Paired, Predictions, paired_of
from gridrun.store import Store
from gridrun.tables.judge import Pools, TestSet, pools_of, size_of, test_set_of
from gridrun.trial import SHORTEST_ID, config_of
from gridrun.verdicts import MIN_DEGREES, Pool, Runs, Verdict
from trainer import ConfigError, TrainConfig

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.store.records import Record

MAX_ABOUT = 60
"""Characters that name a row; the rows of a whole store differ in everything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SideRow:
    """One row of a side."""

    config: TrainConfig
    name: str | None
    records: Mapping[int, Record]
    """Of the trials that are done, by seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """What stands on one side of a comparison."""

    text: str
    """As the user named it."""
    kind: str
    """row, grid, store or commit."""
    rows: Sequence[SideRow]
    pools: Pools


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One row of both sides. Errors are fractions."""

    about: str
    runs: tuple[int, int]
    medians: tuple[float, float]
    difference: float
    """First - second."""
    same_runs: int
    """Trials that both sides have with exactly the same error."""
    half_width: float | None = None
    """Half the 95 % interval; None where nobody can tell."""
    verdict: Verdict | None = None
    """On the first against the second."""
    more_seeds: int | None = None
    p_value: float | None = None
    is_told: bool | None = None
    """Whether the difference is one among all pairs too (Holm)."""
    paired: Paired | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """Two sides, row by row."""

    pairs: tuple[Pair, ...]
    only: tuple[int, int]
    """Rows that the other side does not have, or that have no runs there."""
    differing: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    """Of two rows, the options in which they differ."""


def read_side(text: str, store: Store, load: Callable[[Path], Grid]) -> Side:
    """Return what a text names: a grid file, a results directory, or the beginning of an id or a commit.

    Raises:
        GridrunError: it names nothing, or several things.
    """
    path = Path(text)
    if path.suffix in (".yaml", ".yml"):
        grid = load(path)
        records = store.records([i for row in grid.rows for i in row.trial_ids])
        rows = []
        for row in grid.rows:
            found = _done(records[trial_id] for trial_id in row.trial_ids if trial_id in records)
            rows.append(SideRow(config=row.config, name=row.name, records=found))
        return Side(text=text, kind="grid", rows=rows, pools=pools_of(store))
    if path.is_dir():
        other = Store(path)
        return Side(text=text, kind="store", rows=_rows(other.records().values()), pools=pools_of(other))
    if not re.fullmatch(r"[0-9a-f]+", text) or len(text) < SHORTEST_ID:
        raise GridrunError(
            f"{text}: is no grid file, no directory and not the beginning of an id or a commit (at least "
            f"{SHORTEST_ID} hex digits); `gridrun why TABLE ROW` shows the id of a row"
        )
    records = store.records()
    ids = {
        r.config_id for r in records.values() if text in (r.config_id[: len(text)], r.trial_id[: len(text)])
    }
    known_records = [*store.forgotten(), *records.values()]
    of_commit = [r for r in known_records if (r.provenance.commit or "").startswith(text)]
    commits = {r.provenance.commit for r in of_commit}
    if len(ids) + len(commits) != 1:
        known = "several rows or commits begin" if ids or commits else "no row, trial or commit of it begins"
        raise GridrunError(f"{store.root}: {known} with {text!r}")
    if ids:
        rows = _rows(r for r in records.values() if r.config_id in ids)
        return Side(text=text, kind="row", rows=rows, pools=pools_of(store))
    return Side(text=text, kind="commit", rows=_rows(of_commit), pools=pools_of(store))


def _rows(records: Iterable[Record]) -> list[SideRow]:
    """Return the rows of some records whose configs this version knows."""
    of_config: dict[str, list[Record]] = {}
    for record in records:
        of_config.setdefault(record.config_id, []).append(record)
    rows = []
    for found in of_config.values():
        try:
            config = config_of(found[0].config_json)
        except (ConfigError, ValueError, TypeError):
            continue
        rows.append(SideRow(config=config, name=None, records=_done(found)))
    return rows


def _done(records: Iterable[Record]) -> dict[int, Record]:
    return {record.seed: record for record in records if record.status == "done"}


def compare(
    first: Side,
    second: Side,
    column: str = "test_error",
    tolerance: float = verdicts.DEFAULT_TOLERANCE,
    predictions: Mapping[str, Predictions] | None = None,
) -> Compared:
    """Compare two sides of one kind.

    Rows of two stores or commits belong together if they have one config; rows of two grids if they have the
    same name, or else the same values of the options that vary within the grids.

    Args:
        column: an error on test images, as the store calls it.
        tolerance: half the width of what counts as equivalent, a fraction.
        predictions: by trial id.

    Raises:
        GridrunError: the sides are of different kinds, or have no row in common.
    """
    if first.kind != second.kind:
        kinds = f"{first.text} is a {first.kind}, {second.text} a {second.kind}"
        raise GridrunError(f"{kinds}; name two of one kind")
    matched = _matched(first, second)
    pairs = [pair for pair in matched if all(_errors(row, column) for row in pair[1:])]
    if not pairs:
        what = "no row in common that has runs" if matched else "no row in common; compare two rows instead"
        raise GridrunError(f"{first.text} and {second.text} have {what}")
    spreads = _Spreads(first, second, column)
    found = [_pair(*pair, spreads, column, tolerance, predictions or {}) for pair in pairs]
    p_values = {i: pair.p_value for i, pair in enumerate(found) if pair.p_value is not None}
    told = dict(zip(p_values, verdicts.holm(list(p_values.values())), strict=True))
    return Compared(
        pairs=tuple(replace(pair, is_told=told.get(i)) for i, pair in enumerate(found)),
        only=(len(first.rows) - len(pairs), len(second.rows) - len(pairs)),
        differing=_differing(*pairs[0][1:]) if first.kind == "row" else {},
    )


def _matched(first: Side, second: Side) -> list[tuple[str, SideRow, SideRow]]:
    """Return the rows that belong together, with what tells each from the others."""
    if first.kind == "row":
        return [(f"{first.text} and {second.text}", first.rows[0], second.rows[0])]
    key = _key_of_grids((first, second)) if first.kind == "grid" else lambda row: row.config
    keyed = [{key(row): row for row in side.rows} for side in (first, second)]
    if any(len(found) < len(side.rows) for found, side in zip(keyed, (first, second), strict=True)):
        problem = "what varies in both does not tell their rows apart; compare two rows instead"
        raise GridrunError(f"{first.text} and {second.text}: {problem}")
    both = [(row, keyed[1][own]) for own, row in keyed[0].items() if own in keyed[1]]
    telling, whole = _varying([one for one, _ in both])
    abouts = [
        describe_options({name: options[name] for name in telling if options[name] is not None})
        for options in whole
    ]
    return [
        (one.name or _cut(about) or one.config.model.label, one, two)
        for about, (one, two) in zip(abouts, both, strict=True)
    ]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_ABOUT else f"{text[: MAX_ABOUT - 3]}..."


def _key_of_grids(sides: Sequence[Side]) -> Callable[[SideRow], Any]:
    """Return what tells the rows of two grids apart: their names, or the options that vary within both."""
    if all(row.name for side in sides for row in side.rows):
        return lambda row: row.name
    varying = [_varying(side.rows)[0] for side in sides]
    names = [name for name in varying[0] if name in varying[1]]
    return lambda row: (row.name, *map(freeze, map(row.config.flat().get, names)))


def _varying(rows: Sequence[SideRow]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the options in which rows differ, and all options of each row: None for one that it lacks."""
    flats = [row.config.flat() for row in rows]
    names = list(dict.fromkeys(name for flat in flats for name in flat))
    whole = [{name: flat.get(name) for name in names} for flat in flats]
    return varying_columns(names, whole), whole


def _errors(row: SideRow, column: str) -> dict[int, float]:
    found = {seed: getattr(record, column) for seed, record in row.records.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def _runs(row: SideRow, column: str) -> Runs:
    return Runs(tuple(_errors(row, column).values()), *size_of(row.config, column))


class _Spreads:
    """What the runs of both sides vary by from seed to seed, by test set."""

    def __init__(self, first: Side, second: Side, column: str) -> None:
        self._sides, self._column = (first, second), column
        self._pools: dict[TestSet, Pool | None] = {}

    def of(self, row: SideRow) -> Pool | None:
        """Return the spread of a row's runs; None where nobody can tell."""
        runs, test_set = _runs(row, self._column), test_set_of(row.config.flat())
        if test_set not in self._pools:
            self._pools[test_set] = self._pooled(row, test_set)
        found = self._pools[test_set]
        if found is None or not runs.is_between:
            return None
        return found if found.is_shared else verdicts.own(runs)

    def _pooled(self, row: SideRow, test_set: TestSet) -> Pool | None:
        rows = [one for side in self._sides for one in side.rows]
        same = (one for one in rows if test_set_of(one.config.flat()) == test_set)
        found = verdicts.pool(_runs(one, self._column) for one in same)
        candidates = [found, *(side.pools(row.config, self._column) for side in self._sides)]
        return next((one for one in candidates if one and one.degrees >= MIN_DEGREES), None)


def _pair(
    about: str,
    one: SideRow,
    two: SideRow,
    spreads: _Spreads,
    column: str,
    tolerance: float,
    predictions: Mapping[str, Predictions],
) -> Pair:
    ours, theirs = _errors(one, column), _errors(two, column)
    medians = statistics.median(ours.values()), statistics.median(theirs.values())
    found = Pair(
        about=about,
        runs=(len(ours), len(theirs)),
        medians=medians,
        difference=medians[0] - medians[1],
        same_runs=sum(
            one.records[seed].trial_id == two.records[seed].trial_id and ours[seed] == theirs[seed]
            for seed in ours.keys() & theirs.keys()
        ),
        paired=paired_of(_ids(one), _ids(two), predictions),
    )
    first, second = spreads.of(one), spreads.of(two)
    if first is None or second is None or test_set_of(one.config.flat()) != test_set_of(two.config.flat()):
        return found
    judged = verdicts.compare_rows(_runs(one, column), _runs(two, column), first, second)
    verdict, more = judged.verdict(tolerance), None
    if verdict == "open":
        more = verdicts.more_seeds(judged, len(ours), tolerance, other=len(theirs))
    half_width, p_value = judged.half_width(), judged.p_value
    return replace(found, half_width=half_width, verdict=verdict, more_seeds=more, p_value=p_value)


def _ids(row: SideRow) -> dict[int, str]:
    return {seed: record.trial_id for seed, record in row.records.items()}


def _differing(one: SideRow, two: SideRow) -> dict[str, tuple[Any, Any]]:
    """Return the options in which two rows differ, with both values; None where a row has no such option."""
    first, second = one.config.flat(), two.config.flat()
    names = dict.fromkeys((*first, *second))
    pairs = {name: (first.get(name), second.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if freeze(pair[0]) != freeze(pair[1])}
