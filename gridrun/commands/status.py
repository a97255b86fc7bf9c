"""`gridrun status`."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import GridOptions, grid_options, json_option, results_option
from gridrun.commands._search import as_dict, describe_round, estimate, progress_of, to_train
from gridrun.commands._show import (
    echo_json,
    format_counts,
    format_end,
    format_estimate,
    format_position,
    format_saved,
    note_line,
    warn_if_missing,
)
from gridrun.commands._sweep_options import SweepOptions
from gridrun.text import format_percent, number_of, printable

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.plan.overview import Overview
    from gridrun.search import Progress
    from gridrun.store import Store
    from gridrun.store.notes import Note

WATCH_SECONDS = 2.0
MAX_FAILURES = 20


@click.command("status", cls=GroupedCommand, example="gridrun status grids/quickstart.yaml --watch")
@grid_options()
@results_option
@click.option("--watch", is_flag=True, help="Keep the screen up to date until Ctrl-C.")
@json_option
def command(grids: GridOptions, results: Path, watch: bool, as_json: bool) -> None:
    """Show which trials are running, done, failed and missing.

    Covers the named grids, or the whole results directory if none is named.
    """
    from gridrun.looks import most_more
    from gridrun.plan.overview import overview
    from gridrun.store import Store

    if watch and as_json:
        raise click.UsageError("--watch and --json do not go together")
    store = Store(results)
    loaded = grids.read(store) if grids else None
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            watch_store(store, loaded)
        return
    warn_if_missing(store)
    searches = progress_of(loaded or (), store)
    found = overview(store, to_train(loaded, searches) if loaded is not None else None)
    if as_json:
        running = {run.trial_id: dataclasses.asdict(run) for run in found.running}
        counts = {name.replace(" ", "_"): count for name, count in found.counts.items()}
        known = [as_dict(progress) for progress in searches]
        saved = {trial_id: {"epoch": epoch, "epochs": of} for trial_id, (epoch, of) in found.saved.items()}
        told = [note.as_dict() for note in _notes(store, loaded)]
        also = {"launches": len(found.launches), "saved": saved, "searches": known, "user_notes": told}
        echo_json({**counts, "running": running, **also})
        return
    for progress in searches:
        show_search(progress, store)
    click.echo(headline(found))
    if more := most_more(loaded or ()):
        click.echo(f"seeds: auto: up to {number_of(more, 'more trial')}, while verdicts are open")
    shown = {run.trial_id for run in found.running}
    launches = (state for state in found.launches if any(run.trial_id in shown for run in state.running))
    for alike in dict.fromkeys(state.alike for state in launches if state.alike):
        click.echo(f"all: {printable(alike)}")
    for run in found.running:
        error = "" if run.test_error is None else f", test error {format_percent(run.test_error)} %"
        click.echo(
            f"  {run.trial_id}  epoch {format_position(run)} of {run.epochs}{error}  {printable(run.about)}"
        )
    if found.saved:
        click.echo(format_saved(found.saved))
    failures = store.rows(found.unsuccessful) if found.unsuccessful else {}
    for trial_id, row in list(failures.items())[:MAX_FAILURES]:
        click.echo(f"  {trial_id}  {format_end(row)}")
    for note in _notes(store, loaded):
        click.echo(f"  {note_line(note)}")


def _notes(store: Store, grids: Sequence[Grid] | None) -> list[Note]:
    """Return the users' notes on the trials and rows of some grids, or on all."""
    rows = [row for grid in grids or () for row in grid.rows]
    about = {each for row in rows for each in (row.config_id, *row.trial_ids)}
    return store.notes.read(None if grids is None else about)


def show_search(progress: Progress, store: Store) -> None:
    """Print how far a search is, how long the rest takes, and where its members come from."""
    click.echo(describe_round(progress))
    if progress.is_over:
        return
    plan, forecast = estimate(progress, store, SweepOptions().resolve([]))
    if plan.to_start:
        click.echo(f"  left of the search: {format_estimate(forecast)}")
    for segment in progress.current:
        error = progress.errors.get(segment.parent or "")
        parts = [f"member {segment.member}"]
        parts += [] if segment.donor is None else [f"goes on from member {segment.donor}"]
        parts += [] if error is None else [f"validation error {format_percent(error)} %"]
        parts += ["done" if segment.trial.trial_id in progress.errors else "not done"]
        click.echo(f"  {segment.trial.trial_id}  {', '.join(parts)}")
        if note := progress.notes_on(segment):
            click.echo(f"    {printable(note)}")


def headline(found: Overview) -> str:
    """Return the counts in one line, such as `3 done, 1 missing; nothing is running`."""
    counts = {"running": len(found.running), **found.counts}
    launches = len(found.launches)
    running = f"{launches} launch{'es' if launches > 1 else ''} running" if launches else "nothing is running"
    return f"{format_counts(counts)}; {running}" if any(counts.values()) else running


def watch_store(store: Store, grids: Sequence[Grid] | None) -> None:
    """Redraw the state of a store every few seconds. In a pipe, print a line whenever it changes."""
    from gridrun.looks import settle
    from gridrun.plan.overview import overview

    def look() -> tuple[list[str], Overview]:
        now = None if grids is None else settle(grids, store)
        searches = progress_of(now or (), store)
        found = overview(store, None if now is None else to_train(now, searches))
        return [*map(describe_round, searches), headline(found)], found

    last = ""
    while not (sys.stdout and sys.stdout.isatty()):
        if (line := "\n".join(look()[0])) != last:
            click.echo(line)
            last = line
        time.sleep(WATCH_SECONDS)
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from gridrun.commands._views import screen

    with Live(auto_refresh=False) as live:
        while True:
            lines, found = look()
            live.update(Group(*map(Text, lines), screen(found.launches, live.console.width)), refresh=True)
            time.sleep(WATCH_SECONDS)
