"""Which figures some grids have, built from what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gridrun.errors import GridError, GridrunError
from gridrun.figures import spread
from gridrun.figures.build import build_figure
from gridrun.figures.model import FORMATS
from gridrun.figures.policies import search_figures
from gridrun.grid.plot_specs import PlotSpec
from trainer.registry import did_you_mean

if TYPE_CHECKING:
    from gridrun.figures.model import Drawable
    from gridrun.grid import Grid
    from gridrun.grid.search import Search
    from gridrun.store import Store

Warn = Callable[[str], None]


def figures_of(
    grids: Sequence[Grid],
    store: Store,
    warn: Warn,
    options: Mapping[str, Any] | None = None,
    only: str | None = None,
) -> list[Drawable]:
    """Build the figures of some grids from what is stored, without those that have no run to show.

    A search has two: the best member's schedule, and its lineage.

    Args:
        warn: is told of each table or figure that cannot be drawn.
        options: `kind`, `x`, `y` and the like: one figure of all rows, in place of those the grid declares.
        only: the id of the one figure to build, or how it begins.

    Raises:
        GridrunError: no rows can be drawn, no trial has ended, two figures have one id, or none has `only`.
    """
    if options and options.get("kind") == spread.KIND:
        return [_of_spread(grids, store, options)]
    found = [figure for grid in grids if grid.search for figure in _of_search(grid, grid.search, store)]
    if all(grid.search for grid in grids):
        if not found:
            problem = "the first round of this search has not ended yet, so there is nothing to draw"
            raise GridrunError(f"{store.root}: {problem}; `gridrun search` trains it")
        return found
    chosen = _specs([grid for grid in grids if not grid.search], warn, options or {})
    if only is not None:
        chosen, found = [_spec_named(only, chosen)], []
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


def _of_spread(grids: Sequence[Grid], store: Store, options: Mapping[str, Any]) -> Drawable:
    if more := sorted(options.keys() - {"kind"}):
        raise GridrunError(f"--kind {spread.KIND} goes with no other option, got {', '.join(more)}")
    records = store.records([i for grid in grids for row in grid.rows for i in row.trial_ids])
    figure = spread.spread_figure(grids, records)
    if figure is None:
        raise GridrunError(f"{store.root}: no row of these grids has two runs that say how much it varies")
    return figure


def _of_search(grid: Grid, search: Search, store: Store) -> Iterator[Drawable]:
    yield from search_figures(grid.name, grid.title, store.lineage(search.search_id))


def _spec_named(text: str, specs: Sequence[PlotSpec]) -> PlotSpec:
    """Return the spec with this id, or the only one whose id begins so. Raises GridrunError."""
    found = [spec for spec in specs if spec.id == text] or [
        spec for spec in specs if spec.id.startswith(text)
    ]
    if len(found) == 1:
        return found[0]
    ids = [spec.id for spec in specs]
    if not found:
        raise GridrunError(f"there is no figure {text!r}.{did_you_mean(text, ids)}")
    raise GridrunError(f"{text!r} is the beginning of several figures: {', '.join(s.id for s in found)}")


def _specs(grids: Sequence[Grid], warn: Warn, options: Mapping[str, Any]) -> list[PlotSpec]:
    specs: dict[str, tuple[Grid, PlotSpec]] = {}
    for grid in grids:
        for spec in _specs_of(grid, warn, options):
            other, _ = specs.setdefault(spec.id, (grid, spec))
            if other is not grid:
                raise GridrunError(
                    f"{grid.path} and {other.path} both have a figure {spec.id!r}: "
                    "draw them with different --out"
                )
            spec.check()
    if not specs:
        raise GridrunError("these grids have no rows that can be drawn")
    return [spec for _, spec in specs.values()]


def _specs_of(grid: Grid, warn: Warn, options: Mapping[str, Any]) -> Iterator[PlotSpec]:
    """Yield the one figure with these options, else those that the grid declares, else one for each table."""
    if options:
        if grid.rows:
            yield grid.plot_as(options, grid.rows)
    elif grid.plots:
        yield from grid.plots
    else:
        for table in grid.tables:
            if table.rows:
                try:
                    yield grid.plot_of(table)
                except GridError as error:
                    warn(f"{grid.path}: {error}: not drawn")


def read_formats(text: str) -> list[str]:
    """Return the file formats in a list such as `png,svg`. Raises GridrunError: there is no such format."""
    formats = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in formats:
        if name not in FORMATS:
            raise GridrunError(f"--format: unknown format {name!r}.{did_you_mean(name, FORMATS)}")
    return formats
