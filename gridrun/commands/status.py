"""`gridrun status`."""

from __future__ import annotations

from pathlib import Path

import click

from gridrun.commands._options import grids_argument, json_option, read_grids, results_option
from gridrun.commands._show import counted, echo_json, printable


@click.command("status")
@grids_argument(required=False)
@results_option
@json_option
def command(grids: tuple[Path, ...], results: Path, as_json: bool) -> None:
    """Show what is running, done, failed and left, of some grids or of the whole store."""
    from collections import Counter

    from gridrun.plan import make_plan
    from gridrun.store import Store

    store = Store(results)
    statuses, launches = store.statuses(), store.launches()
    running = {trial_id: state for launch in launches for trial_id, state in launch["running"].items()}
    if grids:
        wanted = make_plan(read_grids(grids), statuses)
        running = {
            trial.trial_id: running[trial.trial_id] for trial in wanted.trials if trial.trial_id in running
        }
        counts = wanted.counts
        counts["missing"] -= sum(trial.trial_id in running for trial in wanted.missing)
    else:
        counts = dict(Counter(statuses.values()))
    if as_json:
        echo_json({**counts, "running": running, "launches": len(launches)})
        return
    click.echo(f"{counted({'running': len(running), **counts})} (launches under way: {len(launches)})")
    for trial_id, state in running.items():
        error = state.get("test_error")
        figure = "" if error is None else f", test error {100 * error:.2f} %"
        click.echo(f"  {trial_id}  epoch {state['epoch']} of {state['epochs']}{figure}")
    failures = [row for row in store.rows().values() if row["status"] != "done"] if counts else []
    for row in failures[:20]:
        if not grids or row["trial_id"] in wanted.status:
            click.echo(f"  {row['trial_id']}  {row['status']}: {printable(row['error'])}")
