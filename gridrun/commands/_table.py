"""Options that say which tables to show, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import click

from gridrun.commands._options import Decorator, options_as

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.grid.table_specs import Spread, TableSpec
    from gridrun.store import Store
    from gridrun.tables.model import Table


@dataclass(frozen=True, kw_only=True, slots=True)
class TableOptions:
    """Which tables of some grids to show, and how."""

    table: str | None = None
    """Id of the one table to show; None: all of them."""
    spread: str | None = None
    """`minmax`, `std`, `mean` or `none`; None: what each table says."""
    mark_best: bool = False
    """Whether to have the best row, and all that cannot be told from it, in bold."""
    accuracy: bool = False
    """Whether to show accuracies in place of errors."""
    pivot: tuple[str, str] | None = None
    """Two columns: the lines and the columns of a matrix."""
    sort: str | None = None
    """Column to sort by; a `-` before it puts the largest first."""

    def __bool__(self) -> bool:
        """Whether the user gave any of them."""
        return self != TableOptions()

    def tables_of(self, grids: Sequence[Grid], store: Store) -> list[Table]:
        """Build the tables. Raises GridrunError."""
        from gridrun.tables.build import tables_of
        from gridrun.tables.why import find_table

        if self.table is not None:
            grid, spec = find_table(grids, self.table)
            grids = [replace(grid, tables=(spec,))]
        if self.accuracy:
            grids = [replace(grid, tables=tuple(map(_with_accuracies, grid.tables))) for grid in grids]
        if self.mark_best:
            grids = [
                replace(grid, tables=tuple(replace(spec, mark_best=True) for spec in grid.tables))
                for grid in grids
            ]
        return list(map(self._shown, tables_of(grids, store)))

    def _shown(self, table: Table) -> Table:
        from gridrun.tables.arrange import pivot, sort_lines

        if self.spread:
            spread = None if self.spread == "none" else cast("Spread", self.spread)
            table = replace(table, spread=spread)
        if self.sort:
            table = sort_lines(table, self.sort)
        return pivot(table, *self.pivot) if self.pivot else table


def _with_accuracies(spec: TableSpec) -> TableSpec:
    from gridrun.metrics import ACCURACIES

    columns = dict.fromkeys(ACCURACIES.get(column, column) for column in spec.columns)
    return replace(spec, columns=tuple(columns))


def table_options() -> Decorator:
    """Give a command `TableOptions` as its argument `options`."""
    return options_as(
        TableOptions,
        "options",
        (
            click.option("--table", metavar="ID", help="Show only the table with this id or title."),
            click.option(
                "--spread",
                type=click.Choice(["minmax", "std", "mean", "none"]),
                help="Show the lowest and highest run, or the standard deviation, beside each median; "
                "mean: mean ± standard deviation. "
                "[default: what each table says, else none]",
            ),
            click.option(
                "--mark-best",
                is_flag=True,
                help="Put the best row, and all that cannot be told from it, in bold.",
            ),
            click.option("--accuracy", is_flag=True, help="Show accuracies in place of errors."),
            click.option(
                "--pivot",
                nargs=2,
                metavar="ROW COLUMN",
                help="Show the first metric as a matrix: a line for each value of one option, a column for "
                "each value of another.",
            ),
            click.option(
                "--sort", metavar="COLUMN", help="Sort the rows by this column; -COLUMN: the largest first."
            ),
        ),
    )
