"""Which figures some grids have, built from what is stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gridrun.errors import GridError, GridrunError
from gridrun.figures.build import build_figure
from gridrun.figures.model import FORMATS
from gridrun.figures.policies import search_figures
from gridrun.grid.node import Node, locate
from gridrun.grid.pick import Pick, read_pick
from gridrun.grid.plot_specs import PlotSpec, picked
from gridrun.grid.settings import Missing
from gridrun.grid.sources import parse_overrides
from gridrun.text import format_option
from trainer.registry import did_you_mean

if TYPE_CHECKING:
    from gridrun.figures.model import Drawable
    from gridrun.grid import Grid
    from gridrun.grid.search import Search
    from gridrun.store import Store

Warn = Callable[[str], None]
MAX_VALUES = 8
"""Values of an option that a message names."""


def figures_of(
    grids: Sequence[Grid],
    store: Store,
    warn: Warn,
    options: Mapping[str, Any] | None = None,
    where: Sequence[str] = (),
) -> list[Drawable]:
    """Build the figures of some grids from what is stored, without those that have no run to show.

    A search has two: the best member's schedule, and its lineage.

    Args:
        warn: is told of each table or figure that cannot be drawn.
        options: `kind`, `x`, `y` and the like: one figure of all rows, in place of those the grid declares.
        where: `KEY=VALUE`, the rows to show.

    Raises:
        GridrunError: no rows match, no trial has ended, or two figures have one id.
    """
    found = [figure for grid in grids if grid.search for figure in _of_search(grid, grid.search, store)]
    if all(grid.search for grid in grids):
        if not found:
            problem = "the first round of this search has not ended yet, so there is nothing to draw"
            raise GridrunError(f"{store.root}: {problem}; `gridrun search` trains it")
        return found
    chosen = _specs([grid for grid in grids if not grid.search], warn, options or {}, where)
    wanted = {trial_id for spec in chosen for row in spec.rows for trial_id in row.trial_ids}
    curves = any(spec.kind == "curves" for spec in chosen)
    records, epochs = store.records(wanted), store.epochs(wanted) if curves else {}
    figures = [build_figure(spec, records, epochs) for spec in chosen]
    if not found and all(figure.is_empty for figure in figures):
        raise GridrunError(
            f"{store.root}: none of these trials has results yet, so there is nothing to draw; "
            "`gridrun launch` trains them"
        )
    for figure in figures:
        if figure.is_empty:
            warn(f"{figure.id}: no results yet, not drawn")
    return [*(figure for figure in figures if not figure.is_empty), *found]


def _of_search(grid: Grid, search: Search, store: Store) -> Iterator[Drawable]:
    yield from search_figures(grid.name, grid.title, store.lineage(search.search_id))


def _specs(
    grids: Sequence[Grid], warn: Warn, options: Mapping[str, Any], where: Sequence[str]
) -> list[PlotSpec]:
    wanted = parse_overrides(where, "--where", "epochs=200")
    pick = read_pick(Node("--where", "", locate(wanted))) if where else None
    specs: dict[str, tuple[Grid, PlotSpec]] = {}
    for grid in grids:
        for spec in _specs_of(grid, warn, options, pick):
            other, _ = specs.setdefault(spec.id, (grid, spec))
            if other is not grid:
                raise GridrunError(
                    f"{grid.path} and {other.path} both have a figure {spec.id!r}: "
                    "draw them with different --out"
                )
            spec.check()
    if not specs:
        if where:
            raise GridrunError(
                f"no rows that can be drawn match --where {' '.join(where)}{_values_of(grids, where)}"
            )
        raise GridrunError("these grids have no rows that can be drawn")
    # The title says which rows these are, so that the figure cannot pass for that of all rows.
    suffix = f" ({', '.join(where)})" if where else ""
    return [dataclasses.replace(spec, title=spec.title + suffix) for _, spec in specs.values()]


def _specs_of(grid: Grid, warn: Warn, options: Mapping[str, Any], pick: Pick | None) -> Iterator[PlotSpec]:
    """Yield the one figure with these options, else those that the grid declares, else one for each table."""
    if options:
        if rows := picked(grid.rows, pick):
            yield grid.plot_as(options, rows)
    elif grid.plots:
        for plot in grid.plots:
            if rows := picked(plot.rows, pick):
                yield dataclasses.replace(plot, rows=rows)
    else:
        for table in grid.tables:
            if rows := picked(table.rows, pick):
                try:
                    yield grid.plot_of(dataclasses.replace(table, rows=rows))
                except GridError as error:
                    warn(f"{grid.path}: {error}: not drawn")


def _values_of(grids: Sequence[Grid], where: Sequence[str]) -> str:
    """Return the values that rows have of a lone option, if they are few: `; epochs is 3, 6`."""
    key = where[0].partition("=")[0].strip()
    found = (row.option(key) for grid in grids for row in grid.rows)
    values = dict.fromkeys(format_option(value) for value in found if not isinstance(value, Missing))
    return f"; {key} is {', '.join(values)}" if len(where) == 1 and 0 < len(values) <= MAX_VALUES else ""


def read_formats(text: str) -> list[str]:
    """Return the file formats in a list such as `png,svg`. Raises GridrunError: there is no such format."""
    formats = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in formats:
        if name not in FORMATS:
            raise GridrunError(f"--format: unknown format {name!r}.{did_you_mean(name, FORMATS)}")
    return formats
