"""`gridrun plan`."""

from __future__ import annotations

from pathlib import Path

import click

from gridrun.commands._options import (
    GridOptions,
    SweepOptions,
    budget_option,
    cpus_option,
    cpus_per_trial_option,
    gpus_option,
    gpus_per_trial_option,
    grid_options,
    json_option,
    results_option,
    seeds_option,
    set_option,
    sweep_options,
)
from gridrun.commands._show import show_plan


@click.command("plan")
@grid_options(set_option, seeds_option)
@results_option
@sweep_options(cpus_option, gpus_option, gpus_per_trial_option, cpus_per_trial_option, budget_option)
@json_option
def command(grids: GridOptions, results: Path, options: SweepOptions, as_json: bool) -> None:
    """Show what a launch would do, and how long it would take.

    Starts nothing. Counts done, missing and failed trials, and lists missing ones in the order in which
    they would start. Estimates use past trials of the results directory: of the same config, else of the
    same network, else a fit to all of them. Without past trials there is an order but no time. Use --cpus
    and --gpus to ask about another machine. Exits with 1 if the estimate is over --budget-hours.
    """
    from gridrun.plan import changed, forecast_from, requested_name
    from gridrun.store import Store
    from gridrun.sweep import over_budget, plan_launch

    loaded, store = grids.read(), Store(results)
    resolved = options.resolve(loaded)
    plan = plan_launch(loaded, store, resolved)
    forecast = forecast_from(store, plan, plan.to_start, resolved.capacity)
    before = [store.requested.read(requested_name(grid, store)) for grid in loaded]
    show_plan(plan, forecast, changed(loaded, plan, before, store.statuses()), as_json)
    if options.budget_hours is not None and (problem := over_budget(forecast, options.budget_hours)):
        click.echo(problem, err=True)
        raise SystemExit(1)
