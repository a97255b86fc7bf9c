"""How many seeds rows with `seeds: auto` get, and which rows are hopeless. Both follow from the records."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from gridrun.grid.looks import AdaptiveSeeds
from gridrun.tables.build import build_table, make_cell
from gridrun.tables.judge import is_judged, pools_of, size_of, test_set_of
from gridrun.trial import trial_id
from gridrun.verdicts import Runs

if TYPE_CHECKING:
    from gridrun.grid import Grid, Row
    from gridrun.store import Store
    from gridrun.store.records import Record

FAR_SIGMAS = 5.0
"""A first seed that is so many standard deviations behind is far off. A run is taken to vary by the binomial
one, which is more than trained networks do."""


def settle(grids: Sequence[Grid], store: Store) -> list[Grid]:
    """Return grids with as many seeds of each adaptive row as the records ask for.

    A row has the seeds of its first look. When all seeds of a look have ended and a verdict on the row is
    open, it gets those of the next one. A look of which a seed has ended is completed, whatever happens to
    the verdicts of the rows around it.

    Raises:
        StoreError: the store cannot be read.
    """
    if not any(map(adaptive_rows, grids)):
        return list(grids)
    return [_settled(grid, store) if adaptive_rows(grid) else grid for grid in grids]


def adaptive_rows(grid: Grid) -> dict[str, AdaptiveSeeds]:
    """Return the seeds of the rows that have no fixed number, by `config_id`."""
    return {row.config_id: row.seeds for row in grid.rows if isinstance(row.seeds, AdaptiveSeeds)}


def seed_counts(grid: Grid) -> dict[str, int]:
    """Return how many seeds the adaptive rows of a grid have now, by `config_id`."""
    return {config_id: len(seeds) for config_id, seeds in adaptive_rows(grid).items()}


def possible_ids(row: Row) -> tuple[str, ...]:
    """Return the ids of all trials that a row may get."""
    if not isinstance(row.seeds, AdaptiveSeeds):
        return row.trial_ids
    return tuple(trial_id(row.config_id, seed) for seed in range(row.seeds.looks[-1]))


def most_more(grids: Sequence[Grid]) -> int:
    """Return how many more trials rows may get than they have now, if nothing is decided early."""
    return sum(len(possible_ids(row)) - len(row.seeds) for grid in grids for row in grid.rows)


def _settled(grid: Grid, store: Store) -> Grid:
    seeds = adaptive_rows(grid)
    ids = [i for row in grid.rows for i in possible_ids(row)]
    records = store.records(ids)
    counts, complete = {}, set[str]()
    for row in grid.rows:
        if row.config_id not in seeds:
            continue
        ended = [i in records and records[i].status in ("done", "diverged") for i in possible_ids(row)]
        begun = max((place + 1 for place, has_ended in enumerate(ended) if has_ended), default=0)
        counts[row.config_id] = look = seeds[row.config_id].look(begun)
        if all(ended[:look]):
            complete.add(row.config_id)
    grid = with_seed_counts(grid, counts)
    if not any(seeds[i].after(counts[i]) for i in complete):
        return grid
    for config_id in _open_rows(grid, records, store, complete):
        counts[config_id] = seeds[config_id].after(counts[config_id]) or counts[config_id]
    return with_seed_counts(grid, counts)


def with_seed_counts(grid: Grid, counts: Mapping[str, int]) -> Grid:
    """Return a grid with other numbers of seeds of its adaptive rows, by `config_id`."""

    def grown(rows: Sequence[Row]) -> tuple[Row, ...]:
        return tuple(
            dataclasses.replace(row, seeds=AdaptiveSeeds(row.seeds.looks, counts[row.config_id]))
            if isinstance(row.seeds, AdaptiveSeeds)
            else row
            for row in rows
        )

    return dataclasses.replace(
        grid,
        rows=grown(grid.rows),
        tables=tuple(dataclasses.replace(spec, rows=grown(spec.rows)) for spec in grid.tables),
        plots=tuple(dataclasses.replace(spec, rows=grown(spec.rows)) for spec in grid.plots),
    )


def _open_rows(grid: Grid, records: Mapping[str, Record], store: Store, complete: set[str]) -> set[str]:
    """Return the complete rows about which a verdict is open, by `config_id`."""
    found, pools = set[str](), pools_of(store)
    fixed = {row.config_id for row in grid.rows} - adaptive_rows(grid).keys()
    for spec in grid.tables:
        rows = {row.config_id: row for row in spec.rows}
        baselines = spec.compare.baselines if spec.compare else {}
        for line in build_table(spec, records, pools).lines[: len(spec.rows)]:
            for column, cell in line.cells.items():
                if not is_judged(column):
                    continue
                errors = tuple(cell.values.values())
                runs = Runs(errors, *size_of(rows[line.config_id].config, column))
                has_learnt = bool(errors) and runs.is_between
                if cell.difference is not None and _is_open(cell.verdict, has_learnt):
                    found.add(line.config_id)
                other = baselines.get(line.config_id)
                both = {line.config_id, other} if other else set()
                if other and both <= complete | fixed and cell.against:
                    found |= both if _is_open(cell.against.verdict, has_learnt) else set()
    return found & complete


def _is_open(verdict: str | None, has_learnt: bool) -> bool:
    """Return whether more seeds may decide: also where nobody knows yet how much runs vary."""
    return verdict == "open" or (verdict is None and has_learnt)


def hopeless(grids: Sequence[Grid], store: Store) -> frozenset[str]:
    """Return the later trials of rows that are far off after their first seed, of grids that skip these.

    Far off is a row that has diverged or has not learnt; or whose error is far above the published one or,
    where nothing is published, above the lowest first error of the grid on the same test images.
    """
    found: list[str] = []
    for grid in grids:
        if grid.skip_hopeless:
            found += _hopeless(grid, store.records([row.trial_ids[0] for row in grid.rows]))
    return frozenset(found)


def _hopeless(grid: Grid, records: Mapping[str, Record]) -> Iterator[str]:
    first = {row.config_id: records.get(row.trial_ids[0]) for row in grid.rows}
    known = [
        (row, test_set_of(row.config.flat()), record.test_error)
        for row in grid.rows
        if (record := first[row.config_id]) and record.status == "done" and record.test_error is not None
    ]
    best: dict[object, float] = {}
    for _, test_set, error in known:
        best[test_set] = min(error, best.get(test_set, error))
    published = _published(grid)
    for row, test_set, error in known:
        runs = Runs((error,), *size_of(row.config))
        least = published.get(row.config_id, best[test_set])
        sigma = math.sqrt(runs.binomial + Runs((least,), *size_of(row.config)).binomial)
        if (not runs.is_between and error > 0) or error - least > FAR_SIGMAS * sigma:
            yield from row.trial_ids[1:]
    for row in grid.rows:
        record = first[row.config_id]
        if record and record.status == "diverged":
            yield from row.trial_ids[1:]


def _published(grid: Grid) -> dict[str, float]:
    """Return the published test errors of rows, where they are one number."""
    found = {}
    for spec in grid.tables:
        for config_id, published in spec.published.items():
            value = make_cell("test_error", {}, 0, published).published
            if value is not None:
                found[config_id] = value
    return found
