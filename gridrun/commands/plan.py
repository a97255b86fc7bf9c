"""`gridrun plan`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridrun.commands._grids import GridOptions, grid_options, seeds_option, set_option
from gridrun.commands._options import (
    agreed,
    budget_option,
    cpus_option,
    cpus_per_trial_option,
    gpus_option,
    gpus_per_trial_option,
    json_option,
    results_option,
)
from gridrun.commands._plans import over_budget, show_plan

if TYPE_CHECKING:
    from gridrun.resources import GpusPerTrial


@click.command("plan")
@grid_options(set_option, seeds_option)
@results_option
@cpus_option
@gpus_option
@gpus_per_trial_option
@cpus_per_trial_option
@budget_option
@json_option
def command(
    grids: GridOptions,
    results: Path,
    cpus: int | None,
    gpus: int | None,
    gpus_per_trial: GpusPerTrial | None,
    cpus_per_trial: int,
    budget_hours: float | None,
    as_json: bool,
) -> None:
    """Show what a launch would do, and how long it would take.

    Starts nothing. Trials are counted as done, missing and failed; missing ones are listed in order.
    Times rest on the trials of the store: on the same config, else on the same network, else on a
    fit to all of them. A store without trials tells long from short alone. --cpus and --gpus ask
    what another machine would take. Exit 1: over the budget.
    """
    from gridrun.plan import changed, forecast_from, make_plan, requested_name
    from gridrun.resources import capacity
    from gridrun.store import Store
    from gridrun.sweep.retries import due_again

    wanted, store = grids.read(), Store(results)
    statuses = store.statuses()
    plan = replace(make_plan(wanted, statuses), to_retry=due_again(wanted, store))
    share = agreed(wanted, "gpus_per_trial", gpus_per_trial)
    forecast = forecast_from(store, plan, plan.to_start, capacity(cpus, gpus, share, cpus_per_trial))
    before = [store.asked(requested_name(grid, store)) for grid in wanted]
    show_plan(plan, forecast, changed(wanted, plan, before, statuses), as_json)
    if budget_hours is not None and (problem := over_budget(forecast, budget_hours)):
        click.echo(problem, err=True)
        raise SystemExit(1)
