"""What differs between two configs, or two grids, as dotted options; and what that does to ids."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from gridrun.grid.settings import Missing
from gridrun.trial import digest

if TYPE_CHECKING:
    from gridrun.grid import Grid, Row, TableSpec
    from gridrun.grid.plot_specs import PlotSpec

Options = Mapping[str, tuple[Any, Any]]
"""Two values by dotted option; Missing.ABSENT: only the other config has the part that the option is of."""
OTHER_FIELDS = (
    *("name", "title", "description", "keep_checkpoint", "compile", "gpus_per_trial", "skip_hopeless"),
    *("retries", "stop_after_failures", "profiles"),
)
"""What a grid says that changes neither rows nor ids; tables and plots are compared apart."""
_APART = ("id", "rows", "published", "reported", "compare")
"""Fields of tables and plots that do not say how they show something."""


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Options:
    """Return the options in which two flat configs differ, in their order."""
    pairs = {name: (old.get(name, Missing.ABSENT), new.get(name, Missing.ABSENT)) for name in (*old, *new)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Changed:
    """Rows that differ from a row of the other grid, all in the same options."""

    options: Options
    rows: tuple[tuple[Row, Row], ...]
    """Old and new."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GridDiff:
    """What differs between two grids."""

    same: tuple[tuple[Row, Row], ...]
    """Rows of the same config; they may have other seeds."""
    changed: tuple[Changed, ...]
    removed: tuple[Row, ...]
    """Rows of the old grid without a counterpart, as the next ones of the new grid."""
    added: tuple[Row, ...]
    search: Options
    """Of searches: what makes the ids of all their trials others."""
    others: Options
    """What changes no id: titles, columns, published values and the like, by dotted key."""
    kept_ids: frozenset[str]
    """Trials that both ask for."""
    old_ids: frozenset[str]
    """Trials that only the old grid asks for."""
    new_ids: frozenset[str]

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.old_ids or self.new_ids or self.search or self.others)


def diff_grids(old: Grid, new: Grid) -> GridDiff:
    """Compare two grids."""
    olds, news = ({row.config_id: row for row in grid.rows} for grid in (old, new))
    same = [(row, news[config]) for config, row in olds.items() if config in news]
    gone = [row for config, row in olds.items() if config not in news]
    come = [row for config, row in news.items() if config not in olds]
    pairs = _pairs(gone, come)
    groups: dict[str, list[tuple[Row, Row]]] = {}
    options: dict[str, Options] = {}
    for pair in pairs:
        found = differing(*({**row.config.flat(), "seeds": row.seeds} for row in pair))
        key = repr(found)
        options[key] = found
        groups.setdefault(key, []).append(pair)
    paired = {row.config_id for pair in pairs for row in pair}
    before, after = (frozenset(i for row in grid.rows for i in row.trial_ids) for grid in (old, new))
    return GridDiff(
        same=tuple(same),
        changed=tuple(Changed(options=options[key], rows=tuple(rows)) for key, rows in groups.items()),
        removed=tuple(row for row in gone if row.config_id not in paired),
        added=tuple(row for row in come if row.config_id not in paired),
        search=differing(_search(old), _search(new)),
        others={**_differing_fields(old, new, OTHER_FIELDS, ""), **_tables(old, new), **_plots(old, new)},
        kept_ids=before & after,
        old_ids=before - after,
        new_ids=after - before,
    )


def _search(grid: Grid) -> dict[str, Any]:
    if grid.search is None:
        return {}
    own = {
        field.name: getattr(grid.search, field.name) for field in fields(grid.search) if field.name != "base"
    }
    return {**{f"search.{name}": value for name, value in own.items()}, **grid.search.base.flat()}


def _pairs(gone: Sequence[Row], come: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Return which old row has become which new one: the only ones that agree in all that did not change.

    What changed are the options whose values are not as often in the new rows as in the old ones. If rows
    agree in nothing else, they are paired where there is one each.
    """
    if len(gone) != len(come):
        return []
    flats = {row.config_id: row.config.flat() for row in (*gone, *come)}
    names = dict.fromkeys(name for flat in flats.values() for name in flat)

    def counts(rows: Iterable[Row], name: str) -> collections.Counter[str]:
        return collections.Counter(repr(flats[row.config_id].get(name, Missing.ABSENT)) for row in rows)

    stable = [name for name in names if counts(gone, name) == counts(come, name)]

    def keyed(rows: Iterable[Row]) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {}
        for row in rows:
            flat = flats[row.config_id]
            found.setdefault(digest([str(flat.get(name, Missing.ABSENT)) for name in stable]), []).append(row)
        return found

    theirs = keyed(come)
    candidates = [(rows, theirs.get(key, [])) for key, rows in keyed(gone).items()]
    return [(a[0], b[0]) for a, b in candidates if len(a) == len(b) == 1]


def _differing_fields(old: Any, new: Any, names: Iterable[str], prefix: str) -> Options:
    pairs = {f"{prefix}{name}": (getattr(old, name), getattr(new, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _tables(old: Grid, new: Grid) -> Options:
    """Return in what tables differ: their columns and the like, and published values by row."""
    found = dict(_specs("tables", old.tables, new.tables))
    news = {table.id: table for table in new.tables}
    for before in old.tables:
        if before.id not in news:
            continue
        key, after = f"tables.{before.id}", news[before.id]
        labels = [table.compare.label if table.compare else None for table in (before, after)]
        if labels[0] != labels[1]:
            found[f"{key}.compare"] = labels[0], labels[1]
        found |= _published(before, after, f"{key}.published")
    return found


def _plots(old: Grid, new: Grid) -> Options:
    """Return in what declared figures differ; what is published beside them is that of the tables."""
    return _specs("plots", old.plots, new.plots)


def _specs(kind: str, old: Iterable[TableSpec | PlotSpec], new: Iterable[TableSpec | PlotSpec]) -> Options:
    """Return which tables or plots only one grid has, and in which of their own options others differ."""
    olds, news = ({spec.id: spec for spec in specs} for specs in (old, new))
    found: dict[str, tuple[Any, Any]] = {}
    for spec_id in dict.fromkeys((*olds, *news)):
        key = f"{kind}.{spec_id}"
        before, after = olds.get(spec_id), news.get(spec_id)
        if before is None or after is None:
            found[key] = (Missing.ABSENT, True) if before is None else (True, Missing.ABSENT)
            continue
        names = [field.name for field in fields(before) if field.name not in _APART]
        found |= _differing_fields(before, after, names, f"{key}.")
    return found


def _published(old: TableSpec, new: TableSpec, key: str) -> Options:
    """Return published values that differ, of rows that both tables have."""
    both = {row.config_id for row in old.rows} & {row.config_id for row in new.rows}
    found: dict[str, tuple[Any, Any]] = {}
    for row in new.rows:
        if row.config_id not in both:
            continue
        both_values = (table.published.get(row.config_id) for table in (old, new))
        before, after = (each.values if each else {} for each in both_values)
        for name, pair in differing(before, after).items():
            found[f"{key}[{row.config_id}].{name}"] = pair
    return found
