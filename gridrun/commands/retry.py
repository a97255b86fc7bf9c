"""`gridrun retry`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridrun.commands._grids import GridOptions, grid_options, seeds_option, set_option
from gridrun.commands._options import SweepOptions, results_option, run_sweep, sweep_options
from gridrun.commands._show import ending, exit_with, show_summary, show_tables
from gridrun.text import format_percent

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.store import Row, Store


@click.command("retry")
@grid_options(set_option, seeds_option)
@results_option
@click.option("--failed", is_flag=True, help="Only what has failed.")
@click.option("--diverged", is_flag=True, help="Only what has diverged.")
@sweep_options
def command(
    grids: GridOptions,
    results: Path,
    failed: bool,
    diverged: bool,
    options: SweepOptions,
) -> None:
    """Run failed and diverged trials again.

    Those of some grids, or of the whole store if none is named. A failed trial goes on from its
    checkpoint, a diverged one starts anew. What has never run is `gridrun launch`'s.
    """
    from gridrun.store import Store
    from gridrun.tables.build import tables_of

    store = Store(results)
    kinds = {"failed": failed, "diverged": diverged}
    wanted = {kind for kind, named in kinds.items() if named or not any(kinds.values())}
    chosen = grids.read() if grids else None
    sweep = stored_grids(store, wanted) if chosen is None else chosen
    statuses = store.statuses()
    ids = [t.trial_id for grid in sweep for t in grid.trials if statuses.get(t.trial_id) in wanted]
    if not ids:
        click.echo(f"Nothing to retry: no trial has {' or '.join(sorted(wanted))}.", err=True)
        return
    summary = run_sweep(sweep, store, options, only=ids, retry=True)
    if chosen is None:
        rows = store.rows(ids)
        for trial_id in ids:
            click.echo(f"{trial_id}  {outcome(rows[trial_id])}")
    else:
        show_tables(tables_of(chosen, store), None)
    show_summary(summary, results)
    exit_with(summary)


def outcome(row: Row) -> str:
    """Return in one line how a trial has ended."""
    return (
        f"done: test error {format_percent(row['test_error'])} %" if row["status"] == "done" else ending(row)
    )


def stored_grids(store: Store, statuses: Collection[str]) -> list[Grid]:
    """Return the stored trials of some statuses as one grid, or none of none."""
    from gridrun.grid import grid_of
    from gridrun.trial import trial_of
    from trainer import ConfigError

    trials = []
    for row in store.rows().values():
        if row["status"] not in statuses:
            continue
        try:
            trial = trial_of(row["config_json"], row["seed"])
        except ConfigError as error:
            click.echo(f"{row['trial_id']} is left out: {error}", err=True)
            continue
        if trial.trial_id == row["trial_id"]:
            trials.append(trial)
        else:
            click.echo(f"{row['trial_id']} is left out: this version trains it otherwise", err=True)
    return [grid_of(trials)] if trials else []
