"""`gridrun retry`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from gridrun.commands import _options, _sweep_options
from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import GridOptions
from gridrun.commands._show import exit_with, format_end, show_summary, show_tables
from gridrun.commands._sweep_options import SweepOptions
from gridrun.errors import GridrunError
from gridrun.text import number_of


@click.command("retry", cls=GroupedCommand, example="gridrun retry grids/quickstart.yaml --failed")
@_options.grid_options()
@_options.results_option
@click.option("--failed", is_flag=True, help="Only failed trials.")
@click.option("--diverged", is_flag=True, help="Only diverged trials.")
@_sweep_options.sweep_options(*_sweep_options.RUN_OPTIONS)
def command(grids: GridOptions, results: Path, failed: bool, diverged: bool, options: SweepOptions) -> None:
    """Run failed and diverged trials again.

    Takes those of the named grids, or all in the results directory if none is named. A failed trial resumes
    from its checkpoint, a diverged one starts over. Use `gridrun launch` for trials that have never run.

    Name the grids if they say how their trials run: without them, `keep_checkpoint`, `compile` and
    `gpus_per_trial` have their defaults, and segments of searches are left out.
    """
    from gridrun.grid import grid_of
    from gridrun.plan.trials import stored_trials
    from gridrun.store import Store
    from gridrun.tables.build import tables_of

    store = Store(results)
    flags = {"failed": failed, "diverged": diverged}
    statuses = [status for status, flag in flags.items() if flag or not any(flags.values())]
    if grids:
        loaded = grids.read(store)
        for grid in loaded:
            if grid.search:
                problem = "is a search; `gridrun search --retries 1` tries its failed segments again"
                raise GridrunError(f"{grid.path}: {problem}")
    else:
        trials, left_out = stored_trials(store, statuses)
        for trial_id, reason in left_out.items():
            click.echo(f"{trial_id} is left out: {reason}", err=True)
        segments = {line.trial_id for lines in store.lineages().values() for line in lines}
        if left := [trial.trial_id for trial in trials if trial.trial_id in segments]:
            what = number_of(len(left), "segment")
            hint = "`gridrun search GRID --retries 1` tries them again"
            click.echo(f"{what} of searches left out: {hint}", err=True)
        loaded = [grid_of([trial for trial in trials if trial.trial_id not in segments])]
    ends = store.statuses()
    ids = [t.trial_id for grid in loaded for t in grid.trials if ends.get(t.trial_id) in statuses]
    if not ids:
        click.echo(f"Nothing to retry: no trial has {' or '.join(sorted(statuses))}.", err=True)
        return
    from gridrun.commands._views import run_sweep

    resolved = replace(options, only=ids, retry=True).resolve(loaded)
    listeners = options.listeners(loaded, store)
    executor = options.make_executor(resolved.gpus_per_trial, loaded)
    summary = run_sweep(loaded, store, resolved, executor, listeners=listeners)
    if grids:
        show_tables(tables_of(loaded, store), None)
    else:
        rows = store.rows(ids)
        for trial_id in ids:
            click.echo(f"{trial_id}  {format_end(rows[trial_id])}")
    show_summary(summary, results, grids)
    exit_with(summary)
