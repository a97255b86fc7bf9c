"""`gridrun forget`."""

from __future__ import annotations

from pathlib import Path

import click

from gridrun.commands._help import GroupedCommand, complete_id
from gridrun.commands._options import results_option
from gridrun.commands._show import format_end


@click.command("forget", cls=GroupedCommand, example="gridrun forget ee637a70")
@click.argument("ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete_id)
@results_option
def command(ids: tuple[str, ...], results: Path) -> None:
    """Take ended trials out of the results.

    The next launch trains them anew. ID is a trial's id; the beginning is enough. The records, and weights
    that were kept, stay in `forgotten/`, one file each. `gridrun launch --again` does the same and trains at
    once.
    """
    from gridrun.store import Store

    store = Store(results)
    found = list(dict.fromkeys(store.find(start) for start in ids))
    rows = store.rows(found)
    for path in store.forget(found):
        trial_id = path.name.partition(".")[0]
        click.echo(f"{trial_id}  {format_end(rows[trial_id])}; kept in {path.relative_to(store.root)}")
