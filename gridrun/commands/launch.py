"""`gridrun launch`."""

from __future__ import annotations

from pathlib import Path

import click

from gridrun.commands import _options, _sweep_options
from gridrun.commands._help import GroupedCommand, complete_planned_id
from gridrun.commands._options import GridOptions
from gridrun.commands._show import (
    exit_with,
    show_changed_sources,
    show_missing_weights,
    show_plan,
    show_summary,
    show_tables,
)
from gridrun.commands._sweep_options import SweepOptions
from gridrun.errors import GridrunError


@click.command("launch", cls=GroupedCommand, example="gridrun launch grids/quickstart.yaml --seeds 5")
@_options.grid_options(required=True)
@_options.results_option
@_sweep_options.sweep_options(
    *_sweep_options.RUN_OPTIONS,
    click.option(
        "--only",
        metavar="ID",
        multiple=True,
        shell_complete=complete_planned_id,
        help="Run only this trial; the beginning of an id is enough.",
    ),
    click.option("--tag", metavar="TEXT", help="Keep this text with the trials, in the column `tag`."),
    click.option(
        "--again",
        metavar="WHAT",
        multiple=True,
        help="Train ended trials anew, and keep their old records in forgotten/: a trial or row by its id, "
        "all trials of another source file, such as trainer/models/wrn, or `all`; --where picks rows. The "
        "same command resumes such a launch, and once that has ended, starts it over.",
    ),
    click.option("--retry", is_flag=True, help="Also run failed and diverged trials again."),
)
@click.option("--dry-run", is_flag=True, help="Show the plan and stop; exit 1 if it is over --budget-hours.")
def command(grids: GridOptions, results: Path, options: SweepOptions, dry_run: bool) -> None:
    """Train the missing trials of the grids, then print the tables.

    Run the same command again to resume after an interruption. Press Ctrl-C once to save the running
    trials and stop, twice to stop at once.
    """
    from gridrun.looks import settle
    from gridrun.plan import forecast_from
    from gridrun.plan.trials import restrict, select_trials
    from gridrun.store import Store
    from gridrun.sweep import describe_resumed, plan_launch
    from gridrun.tables.build import tables_of

    store = Store(results)
    loaded = grids.read(store)
    for grid in loaded:
        if grid.search:
            raise GridrunError(f"{grid.path}: is a search; run it with `gridrun search`")
    resolved = options.resolve(loaded)
    if dry_run:
        plan = plan_launch(loaded, store, resolved)
        if resolved.only or resolved.retry or resolved.again:
            plan = restrict(plan, select_trials(plan, resolved.only))
        if plan.trained_anew:
            click.echo(describe_resumed(plan), err=True)
        show_changed_sources(plan, store)
        show_plan(plan, forecast_from(store, plan, plan.to_start, resolved.capacity), resolved.budget_hours)
        return
    from gridrun.commands._views import run_sweep

    listeners = options.listeners(loaded, store)
    executor = options.make_executor(resolved.gpus_per_trial, loaded)
    summary = run_sweep(loaded, store, resolved, executor, listeners=listeners)
    show_tables(tables_of(settle(loaded, store), store), None)
    show_summary(summary, results, grids)
    if resolved.runtime.keep_checkpoint != "none":
        show_missing_weights(summary.plan, store)
    exit_with(summary)
