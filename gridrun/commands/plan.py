"""`gridrun plan`."""

from __future__ import annotations

from pathlib import Path

import click

from gridrun.commands import _options, _sweep_options
from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import GridOptions
from gridrun.commands._search import progress_of, to_train
from gridrun.commands._show import show_changed_sources, show_plan
from gridrun.commands._sweep_options import SweepOptions
from gridrun.text import number_of


@click.command("plan", cls=GroupedCommand, example="gridrun plan grids/linear_scaling.yaml --gpus 8")
@_options.grid_options()
@_options.results_option
@_sweep_options.sweep_options(*_sweep_options.PLAN_OPTIONS)
@click.option(
    "--price-per-hour",
    metavar="P",
    type=click.FloatRange(min=0),
    help="Say what the estimate costs at this price of a GPU-hour (of a core-hour without a GPU).",
)
@_options.json_option
def command(
    grids: GridOptions, results: Path, options: SweepOptions, price_per_hour: float | None, as_json: bool
) -> None:
    """Show what a launch would do, and how long it would take.

    Starts nothing. Counts done, missing and failed trials, and lists missing ones in the order in which
    they would start. Estimates use past trials of the results directory: of the same config, else of the
    same network, else a fit to all of them. Without past trials there is an order but no time. Use --cpus
    and --gpus to ask about another machine. Energy is estimated if that of past trials on this hardware was
    measured. Exits with 1 if the estimate is over --budget-hours.

    Of a search, it lists the current round; the estimate covers all rounds.

    Grids that you name are planned as one launch, so they must agree on how to run. Without names, all
    grids under grids/ are covered; where these disagree, the defaults count.
    """
    from gridrun.looks import most_more
    from gridrun.plan import changed, forecast_from, requested_name
    from gridrun.store import Store
    from gridrun.sweep import plan_launch

    store = Store(results)
    loaded = grids.read(store)
    resolved = options.resolve(loaded, one_launch=bool(grids.paths))
    searches = progress_of(loaded, store)
    plan = plan_launch(to_train(loaded, searches), store, resolved)
    forecast = forecast_from(store, plan, plan.to_start, resolved.capacity)
    for progress in searches:
        forecast = progress.forecast(forecast)
    before = [store.requested.read(requested_name(grid, store)) for grid in loaded]
    change = changed(loaded, plan, before, store.statuses())
    show_changed_sources(plan, store)
    if not as_json and (more := most_more(loaded)):
        click.echo(f"seeds: auto: up to {number_of(more, 'more trial')}, while verdicts are open")
    show_plan(plan, forecast, options.budget_hours, change, as_json, searches, price_per_hour)
