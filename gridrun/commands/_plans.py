"""Plans and estimates, as the commands print them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from gridrun.commands._show import counted, echo_json
from gridrun.text import format_time, number_of

if TYPE_CHECKING:
    from gridrun.plan import Change, Forecast, Plan

NUM_SHOWN = 20
"""Trials that a plan lists before it refers to --json."""


def show_plan(plan: Plan, forecast: Forecast, change: Change | None = None, as_json: bool = False) -> None:
    """Print a plan.

    Args:
        plan: all that is asked for.
        forecast: what is to be run of it.
        change: against what was asked for before.
        as_json: for programs, with every number.
    """
    if as_json:
        echo_json(_to_json(plan, forecast, change))
        return
    click.echo(f"{number_of(len(plan.trials), 'trial')}: {counted(plan.counts)}")
    more = plan.num_requested - len(plan.trials)
    if more:
        saved = f"; {_hours(forecast, forecast.shared_hours)} saved" if forecast.shared_hours else ""
        click.echo(f"{more} more are asked for twice and trained once{saved}")
    if change and (change.added or change.dropped):
        counts = {"added": len(change.added), "no longer asked for": len(change.dropped)}
        click.echo(f"since the launches before: {counted(counts)}{_kept(change)}")
    if not forecast.trials:
        return
    from gridrun.grid.describe import describe

    click.echo(estimated(forecast))
    for trial in forecast.trials[:NUM_SHOWN]:
        time = "" if forecast.is_relative else f"~{format_time(forecast.left[trial.trial_id])}"
        click.echo(f"  {trial.trial_id}  {time:>6}{'  ' if time else ''}{describe(trial)}".rstrip())
    if len(forecast.trials) > NUM_SHOWN:
        click.echo(f"  ... and {len(forecast.trials) - NUM_SHOWN} more (--json shows all)")


def estimated(forecast: Forecast) -> str:
    """Return in one line what trials are going to take."""
    capacity = forecast.capacity
    on = f"on {number_of(capacity.gpus if capacity.unit == 'GPU' else capacity.cpus, capacity.unit)}"
    trust = forecast.trust
    if forecast.num_unmeasured:
        trials = number_of(forecast.num_unmeasured, "trial")
        trust += f"; a GPU for each of {trials} is a guess, to be measured"
    if forecast.makespan_seconds is None:
        return f"longest first {on} ({trust})"
    if math.isinf(forecast.makespan_seconds):
        return f"some trials fit nowhere {on}; {_hours(forecast, forecast.hours)} in all ({trust})"
    time = format_time(forecast.makespan_seconds)
    return f"about {time} {on}, {_hours(forecast, forecast.hours)} ({trust})"


def over_budget(forecast: Forecast, budget_hours: float) -> str | None:
    """Return why trials do not keep within a budget, None if they do."""
    if not forecast.trials:
        return None
    if forecast.hours is None:
        return f"no past trials say whether {budget_hours:g} {forecast.capacity.unit}-hours are enough"
    if forecast.hours > budget_hours:
        return f"over the budget of {budget_hours:g} {forecast.capacity.unit}-hours"
    return None


def _kept(change: Change) -> str:
    return " (their results stay in the store)" if change.dropped else ""


def _hours(forecast: Forecast, hours: float | None) -> str:
    hours = hours or 0.0
    return f"{f'{hours:,.0f}' if hours >= 100 else f'{hours:.3g}'} {forecast.capacity.unit}-hours"


def _to_json(plan: Plan, forecast: Forecast, change: Change | None) -> dict[str, Any]:
    capacity, makespan = forecast.capacity, forecast.makespan_seconds
    return {
        "trials": len(plan.trials),
        "configs": len({trial.config_id for trial in plan.trials}),
        "asked_for": plan.num_requested,
        **{name.replace(" ", "_"): count for name, count in plan.counts.items()},
        "added": [trial.trial_id for trial in change.added] if change else None,
        "no_longer_asked_for": list(change.dropped) if change else None,
        "estimate": {
            "trials": len(forecast.trials),
            "makespan_seconds": None if makespan is None or math.isinf(makespan) else makespan,
            "fits": makespan is None or not math.isinf(makespan),
            "hours": forecast.hours,
            "hours_saved_by_sharing": forecast.shared_hours,
            "hours_of": capacity.unit,
            "unmeasured": forecast.num_unmeasured,
            "is_relative": forecast.is_relative,
            "trust": forecast.trust,
            "bases": forecast.bases,
            "cpus": capacity.cpus,
            "gpus": capacity.gpus,
            "slots": capacity.slots(),
        },
        "order": [
            {
                "trial_id": trial.trial_id,
                "config_id": trial.config_id,
                "seed": trial.seed,
                "seconds": None if forecast.is_relative else forecast.left[trial.trial_id],
                "cost": forecast.left[trial.trial_id],
                "basis": forecast.costs[trial.trial_id].basis,
            }
            for trial in forecast.trials
        ],
    }
