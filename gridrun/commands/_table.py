"""Options that say which tables to show, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import click

from gridrun.commands._options import Decorator, options_as

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.grid.table_specs import Spread
    from gridrun.store import Store
    from gridrun.tables.model import Table


@dataclass(frozen=True, kw_only=True, slots=True)
class TableOptions:
    """Which tables of some grids to show, and how."""

    table: str | None = None
    """Id of the one table to show; None: all of them."""
    spread: str | None = None
    """`minmax`, `std` or `none`; None: what each table says."""
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
        return list(map(self._shown, tables_of(grids, store)))

    def _shown(self, table: Table) -> Table:
        from gridrun.tables.arrange import sort_lines

        if self.spread:
            spread = None if self.spread == "none" else cast("Spread", self.spread)
            table = replace(table, spread=spread)
        return sort_lines(table, self.sort) if self.sort else table


def table_options() -> Decorator:
    """Give a command `TableOptions` as its argument `options`."""
    return options_as(
        TableOptions,
        "options",
        (
            click.option("--table", metavar="ID", help="Show only the table with this id or title."),
            click.option(
                "--spread",
                type=click.Choice(["minmax", "std", "none"]),
                help="Show the lowest and highest run, or the standard deviation, beside each median. "
                "[default: what each table says, else none]",
            ),
            click.option(
                "--sort", metavar="COLUMN", help="Sort the rows by this column; -COLUMN: the largest first."
            ),
        ),
    )
