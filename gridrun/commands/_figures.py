"""Figures as several commands need them: which, and from what is stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridrun.errors import GridError, GridrunError

if TYPE_CHECKING:
    from gridrun.figures.model import Figure
    from gridrun.grid import Grid
    from gridrun.grid.pick import Pick
    from gridrun.grid.plot_specs import PlotSpec
    from gridrun.grid.table_specs import TableSpec
    from gridrun.store import Store


def figures_of(
    grids: Sequence[Grid], store: Store, asked: Mapping[str, Any] | None = None, where: Sequence[str] = ()
) -> list[Figure]:
    """Build the figures of some grids from what is stored.

    Args:
        asked: how to show all rows of a grid, in place of the figures that it declares.
        where: `KEY=VALUE`, the rows to show.

    Raises:
        GridrunError: there are no such rows, or two figures have one id.
    """
    from gridrun.figures.build import build_figure
    from gridrun.trial import Trial

    pick = read_where(where) if where else None
    chosen = [(grid, spec) for grid in grids for spec in specs_of(grid, asked or {}, pick)]
    if not chosen:
        if where:
            picked = f"--where {' '.join(where)}{_taken(grids, where)}"
            raise GridrunError(f"no rows that can be drawn match {picked}")
        raise GridrunError("these grids have no rows that can be drawn")
    refuse_twins(chosen)
    for _, spec in chosen:
        spec.check()
    wanted = {
        Trial(row.config, seed).trial_id for _, spec in chosen for row in spec.rows for seed in row.seeds
    }
    curved = any(spec.kind == "curves" for _, spec in chosen)
    if where:  # a figure of some rows must not pass for that of all
        said = f" ({', '.join(where)})"
        chosen = [(grid, dataclasses.replace(spec, title=spec.title + said)) for grid, spec in chosen]
    records, epochs = store.records(wanted), store.epochs(wanted) if curved else {}
    return [build_figure(spec, records, epochs) for _, spec in chosen]


def specs_of(grid: Grid, asked: Mapping[str, Any], pick: Pick | None) -> list[PlotSpec]:
    """Return the one figure that is asked for, else a grid's own, else one for each table."""
    from gridrun.grid.plot_specs import picked

    if asked:
        rows = picked(grid.rows, pick)
        return [grid.plot_as(asked, rows)] if rows else []
    if grid.plots:
        plots = [dataclasses.replace(plot, rows=picked(plot.rows, pick)) for plot in grid.plots]
        return [plot for plot in plots if plot.rows]
    tables = [dataclasses.replace(table, rows=picked(table.rows, pick)) for table in grid.tables]
    return list(_of_tables(grid, [table for table in tables if table.rows]))


def _of_tables(grid: Grid, tables: Sequence[TableSpec]) -> Iterator[PlotSpec]:
    for table in tables:
        try:
            yield grid.plot_of(table)
        except GridError as error:
            click.echo(f"{grid.path}: {error}: not drawn", err=True)


MAX_TAKEN = 8
"""Values of an option that a message names."""


def _taken(grids: Sequence[Grid], where: Sequence[str]) -> str:
    """Say which values rows take, where one option is asked for and these are few."""
    from gridrun.grid.settings import Missing
    from gridrun.grid.table_specs import value_of
    from gridrun.text import format_option

    key = where[0].partition("=")[0].strip()
    taken = (value_of(row, key) for grid in grids for row in grid.rows)
    values = dict.fromkeys(format_option(value) for value in taken if not isinstance(value, Missing))
    return f"; {key} is {', '.join(values)}" if len(where) == 1 and 0 < len(values) <= MAX_TAKEN else ""


def read_formats(text: str) -> list[str]:
    """Return the formats named. Raises GridrunError: there is no such format."""
    from gridrun.figures.model import FORMATS
    from trainer.registry import did_you_mean

    forms = list(dict.fromkeys(form.strip() for form in text.split(",")))
    for form in forms:
        if form not in FORMATS:
            raise GridrunError(f"--format: unknown format {form!r}.{did_you_mean(form, FORMATS)}")
    return forms


def read_where(texts: Sequence[str]) -> Pick:
    """Return which rows `--where` picks. Raises GridError: an option is unknown."""
    from gridrun.grid.node import Node, locate
    from gridrun.grid.pick import read_pick
    from gridrun.grid.sources import parse_overrides

    wanted = parse_overrides(texts, "--where", "epochs=200")
    return read_pick(Node("--where", "", locate(wanted)))


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
            f"{results}: none of these trials has figures yet, so there is nothing to draw; "
            "`gridrun launch` trains them"
        )
    for figure in figures:
        if figure.is_empty:
            click.echo(f"{figure.id}: no figures yet, not drawn", err=True)
    return drawn
