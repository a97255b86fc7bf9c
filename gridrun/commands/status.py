"""`gridrun status`."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from gridrun.commands._grids import GridOptions, grid_options
from gridrun.commands._options import json_option, results_option
from gridrun.commands._show import counted, echo_json, ending, printable, say_if_missing
from gridrun.text import format_percent

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.store import Store
    from gridrun.store.launch_state import LaunchState, Running

WATCH_SECONDS = 2.0
MAX_FAILURES = 20


@click.command("status")
@grid_options()
@results_option
@click.option("--watch", is_flag=True, help="Go on showing it, on one screen, until Ctrl-C.")
@json_option
def command(grids: GridOptions, results: Path, watch: bool, as_json: bool) -> None:
    """Show what is running, done, failed and left.

    Of some grids, or of the whole store if none is named.
    """
    from gridrun.store import Store

    if watch and as_json:
        raise click.UsageError("--watch and --json do not go together")
    store = Store(results)
    wanted = grids.read() if grids else None
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            watch_store(store, wanted)
        return
    say_if_missing(store)
    found = look(store, wanted)
    if as_json:
        running = {run.trial_id: dataclasses.asdict(run) for run in found.running}
        counts = {name.replace(" ", "_"): count for name, count in found.counts.items()}
        echo_json({**counts, "running": running, "launches": len(found.launches)})
        return
    click.echo(headline(found))
    for run in found.running:
        error = "" if run.test_error is None else f", test error {format_percent(run.test_error)} %"
        click.echo(f"  {run.trial_id}  epoch {run.epoch} of {run.epochs}{error}  {printable(run.about)}")
    for row in failures(store, found)[:MAX_FAILURES]:
        click.echo(f"  {row['trial_id']}  {ending(row)}")


class Found(NamedTuple):
    """What is going on in a store."""

    counts: dict[str, int]
    """Trials by status; neither running ones nor those that a launch tries again have one."""
    running: list[Running]
    launches: list[LaunchState]
    unsuccessful: list[str]
    """Ids of the trials that failed or diverged."""


def look(store: Store, grids: Sequence[Grid] | None) -> Found:
    """See what is going on, of some grids or in the whole store."""
    from gridrun.plan import AGAIN, make_plan

    statuses: Mapping[str, str] = store.statuses()
    launches = store.launches()
    running = {
        run.trial_id: run
        for state in launches
        for run in state.running
        if statuses.get(run.trial_id) != "done"  # since the launch wrote that
    }
    statuses = {i: status for i, status in statuses.items() if i not in running}
    again = frozenset(i for state in launches for i in state.again if statuses.get(i) == "failed")
    if grids is None:
        counts = dict(Counter(AGAIN if i in again else status for i, status in statuses.items()))
    else:
        plan = make_plan(grids, statuses)
        wanted = [trial.trial_id for trial in plan.trials]
        running = {trial_id: running[trial_id] for trial_id in wanted if trial_id in running}
        plan = dataclasses.replace(plan, again=again.intersection(plan.status))
        counts, statuses = plan.counts, plan.status
        counts["missing"] -= sum(trial.trial_id in running for trial in plan.missing)
    unsuccessful = [i for i, status in statuses.items() if status != "done" and i not in again]
    return Found(counts, list(running.values()), launches, unsuccessful)


def headline(found: Found) -> str:
    """Return everything in one line."""
    counts = counted({"running": len(found.running), **found.counts})
    return f"{counts} (launches under way: {len(found.launches)})"


def failures(store: Store, found: Found) -> list[dict[str, str]]:
    """Return the records of what failed or diverged."""
    rows = store.rows(found.unsuccessful) if found.unsuccessful else {}
    return list(rows.values())


def watch_store(store: Store, grids: Sequence[Grid] | None) -> None:
    """Draw the state of a store anew every few seconds; where there is no screen, a line when it changes."""
    if not (sys.stdout and sys.stdout.isatty()):
        said = ""
        while True:
            if (line := headline(look(store, grids))) != said:
                click.echo(line)
                said = line
            time.sleep(WATCH_SECONDS)
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from gridrun.commands._views import screen

    with Live(auto_refresh=False) as live:
        while True:
            found = look(store, grids)
            live.update(Group(Text(headline(found)), screen(found.launches)), refresh=True)
            time.sleep(WATCH_SECONDS)
