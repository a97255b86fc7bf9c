"""Figures as several commands need them: which, and from what is stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridrun.errors import GridError, GridrunError

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.grid.pick import Pick
    from gridrun.grid.plot_specs import PlotSpec
    from gridrun.plots import Figure
    from gridrun.store import Store


def figures_of(
    grids: Sequence[Grid], store: Store, asked: Mapping[str, Any] | None = None, where: Sequence[str] = ()
) -> list[Figure]:
    """Build the figures of some grids from what is stored.

    Args:
        asked: how to show each table, in place of the figures that the grids declare.
        where: `KEY=VALUE`, the rows to show.

    Raises:
        GridrunError: there are no such rows, or two figures have one id.
    """
    from gridrun.plots import build_figure
    from gridrun.trial import Trial

    pick = read_where(where) if where else None
    chosen = [(grid, spec) for grid in grids for spec in specs_of(grid, asked or {}, pick)]
    if not chosen:
        raise GridrunError(
            f"--where {' '.join(where)}: matches no row of these grids"
            if where
            else "these grids have no rows to draw"
        )
    refuse_twins(chosen)
    wanted = {
        Trial(row.config, seed).trial_id for _, spec in chosen for row in spec.rows for seed in row.seeds
    }
    curved = any(spec.kind == "curves" for _, spec in chosen)
    rows, epochs = store.rows(wanted), store.epochs(wanted) if curved else {}
    return [build_figure(spec, rows, epochs) for _, spec in chosen]


def specs_of(grid: Grid, asked: Mapping[str, Any], pick: Pick | None) -> list[PlotSpec]:
    """Return a grid's own figures, or one for each table where it has none or others are asked for."""
    from gridrun.grid.plot_specs import picked

    if grid.plots and not asked:
        plots = [dataclasses.replace(plot, rows=picked(plot.rows, pick)) for plot in grid.plots]
        return [plot for plot in plots if plot.rows]
    specs = []
    for table in grid.tables:
        if not (rows := picked(table.rows, pick)):
            continue
        try:
            specs.append(grid.plot_of(dataclasses.replace(table, rows=rows), asked))
        except GridError as error:
            if asked:
                raise
            click.echo(f"{grid.path}: {error}: not drawn", err=True)
    return specs


def read_where(texts: Sequence[str]) -> Pick:
    """Return which rows `--where` picks. Raises GridError: an option is unknown."""
    from gridrun.grid.located_yaml import locate
    from gridrun.grid.node import Node
    from gridrun.grid.overrides import parse_overrides
    from gridrun.grid.pick import read_pick
    from gridrun.grid.settings import known_keys

    return read_pick(Node("--where", "", locate(parse_overrides(texts))), known_keys())


def refuse_twins(chosen: Sequence[tuple[Grid, PlotSpec]]) -> None:
    """Raise GridrunError: two figures would be one file."""
    drawn: dict[str, Grid] = {}
    for grid, spec in chosen:
        other = drawn.setdefault(spec.id, grid)
        if other is not grid:
            raise GridrunError(
                f"{grid.path} and {other.path} both have a figure {spec.id!r}: draw them with different --out"
            )


def worth_drawing(figures: Sequence[Figure], results: Path) -> list[Figure]:
    """Return the figures that have a run to show. Raises GridrunError: none has."""
    drawn = [figure for figure in figures if not figure.is_empty]
    if not drawn:
        raise GridrunError(
            f"{results}: none of these trials has ended, so there is nothing to draw; "
            "`gridrun launch` trains them"
        )
    for figure in figures:
        if figure.is_empty:
            click.echo(f"{figure.id}: nothing has run yet, not drawn", err=True)
    return drawn
