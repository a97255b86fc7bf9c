"""`gridrun merge`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import Directory, json_option, results_option
from gridrun.commands._show import echo_json, format_counts
from gridrun.errors import GridrunError
from gridrun.text import format_percent, number_of, printable

if TYPE_CHECKING:
    from gridrun.store.merge import Conflict, Merged

MAX_CONFLICTS = 20


@click.command(
    "merge",
    cls=GroupedCommand,
    example="gridrun merge ../laptop/results cluster/results",
    needs="results of other machines",
)
@click.argument("others", metavar="OTHER...", nargs=-1, required=True, type=Directory())
@results_option
@json_option
def command(others: Sequence[Path], results: Path, as_json: bool) -> None:
    """Add the trials of other results directories.

    New trials are added, with kept weights, notes and the lineage of searches. Trials that both have are
    counted if their numbers are equal. If they are not, you see both: that is a finding, such as another
    machine or other code under the same id; yours stay, and the exit code is 1. A trial that failed here is
    replaced by its result there. Nothing else is overwritten, no result that was forgotten here comes back,
    and the other directories are only read.

    Launches may run in all of these directories meanwhile. Files from elsewhere are checked first: a
    directory that is damaged, or whose ids do not fit its configs, is refused whole.
    """
    from gridrun.store import Store
    from gridrun.store.merge import merge, open_source

    store = Store(results)
    for other in others:
        if other.exists() and results.exists() and other.samefile(results):
            raise GridrunError(f"{other}: is the directory to merge into (--results)")
    sources = [open_source(Store(other)) for other in others]
    found = {other: merge(store, source) for other, source in zip(others, sources, strict=True)}
    if as_json:
        echo_json({str(other): dataclasses.asdict(merged) for other, merged in found.items()})
    else:
        for other, merged in found.items():
            _show(other, merged)
    if any(merged.has_conflicts for merged in found.values()):
        raise SystemExit(1)


def _show(other: Path, merged: Merged) -> None:
    counts = {
        "added": len(merged.added),
        "in place of failures": len(merged.replaced),
        "equal": merged.equal,
        "failed there or forgotten here": merged.behind,
        "in conflict": len(merged.conflicts),
        "being trained or searched here (merge again later)": len(merged.busy),
    }
    click.echo(f"{printable(str(other))}: {format_counts(counts)}")
    if merged.weights:
        click.echo(f"  weights of {number_of(merged.weights, 'trial')} came with them")
    for trial_id in merged.damaged_weights:
        click.echo(f"  {trial_id}: its weights are damaged or gone there, and were left")
    if merged.notes:
        click.echo(f"  {number_of(merged.notes, 'note')} of users, too")
    if merged.searches:
        click.echo(f"  searches with a longer lineage: {', '.join(merged.searches)}")
    for conflict in merged.conflicts[:MAX_CONFLICTS]:
        click.echo(f"  {conflict.trial_id}: {_describe(conflict)}")
    if len(merged.conflicts) > MAX_CONFLICTS:
        click.echo(f"  ... and {len(merged.conflicts) - MAX_CONFLICTS} more (--json shows all)")
    for search_id in merged.search_conflicts:
        click.echo(f"  search {search_id}: both tell another lineage; yours stays")


def _describe(conflict: Conflict) -> str:
    is_error = "error" in conflict.number and "epoch" not in conflict.number

    def shown(value: Any) -> str:
        if is_error and isinstance(value, float):
            return f"{format_percent(value)} %" if abs(_gap(conflict)) >= 1e-4 else f"{100 * value:.9g} %"
        return printable(str(value))

    name = conflict.number.replace("_", " ")
    ours = f"{shown(conflict.ours)} on {conflict.our_machine}"
    return f"{name} is {ours} here, {shown(conflict.theirs)} on {conflict.their_machine} there"


def _gap(conflict: Conflict) -> float:
    return conflict.ours - conflict.theirs if isinstance(conflict.theirs, float) else 1.0
