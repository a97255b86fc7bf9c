"""What several commands print: plans, tables, and how trials and launches ended."""

from __future__ import annotations

import functools
import json
import math
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridrun.commands._search import as_dict, describe_round
from gridrun.text import format_amount, format_percent, format_time, number_of, printable

if TYPE_CHECKING:
    from gridrun.commands._options import GridOptions
    from gridrun.figures.model import Drawable
    from gridrun.plan import Change, Forecast, Plan
    from gridrun.search import Progress
    from gridrun.store import Store
    from gridrun.store.launches import Running
    from gridrun.store.notes import Note
    from gridrun.sweep import Summary
    from gridrun.tables.model import Table
    from gridrun.trial import Trial

MAX_TRIALS_SHOWN = 20  # trials that a printed plan lists; `--json` has them all
MAX_SAVED_SHOWN = 8
INTERRUPTED = "Interrupted. Run the same command again to resume."


def echo_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2))


def format_counts(counts: Mapping[str, int]) -> str:
    """Return counts such as `45 done, 3 missing`, without those that are 0."""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


def format_saved(saved: Mapping[str, tuple[int, int | None]]) -> str:
    """Return what is saved of trials: `2 trials have checkpoints (epoch 7 of 20, 3 of 20)`.

    `saved` has the last epoch of each, and the epochs of the whole trial if they are known.
    """
    texts = [f"{epoch}" if of is None else f"{epoch} of {of}" for epoch, of in saved.values()]
    more = ["..."] if len(texts) > MAX_SAVED_SHOWN else []
    have = "trial has a checkpoint" if len(texts) == 1 else "trials have checkpoints"
    return f"{len(texts)} {have} (epoch {', '.join([*texts[:MAX_SAVED_SHOWN], *more])})"


def note_line(note: Note, what: str = "") -> str:
    """Return a user's note in one line: `note on seed 0 (ana, 2026-11-28 09:10): the fan was broken`."""
    by = f"{note.by}, " if note.by else ""
    when = note.at[:16].replace("T", " ")
    return printable(f"note on {what or note.about} ({by}{when}): {note.text}")


def format_end(row: Mapping[str, Any]) -> str:
    """Return in one line how a trial ended."""
    if row["status"] == "done":
        of = "validation" if row.get("val_size") or row.get("val_ratio") else "test"
        return f"done: {of} error {format_percent(row['test_error'])} %"
    attempts = row.get("attempts") or 1
    details = [row["failure"]] if row.get("failure") else []
    details += [f"{attempts} attempts"] if attempts > 1 else []
    what = f" ({', '.join(details)})" if details else ""
    return f"{row['status']}{what}: {printable(row['error'] or '')}"


def format_position(run: Running) -> str:
    """Write how many epochs of a running trial are done: `3`, or within an epoch `3.4`."""
    return f"{run.epoch + math.floor(10 * run.part) / 10:.1f}" if run.part else str(run.epoch)


def warn_if_missing(store: Store) -> None:
    """Warn if the results directory does not exist: the user may mean another one."""
    if not store.root.is_dir():
        click.echo(f"{store.root}: no results there yet", err=True)


def stale_figures(figures: Mapping[Path, Drawable]) -> dict[Path, Drawable]:
    """Return the figures whose files are missing or out of date."""
    from gridrun.figures.draw import is_current

    return {path: figure for path, figure in figures.items() if not is_current(path, figure)}


def show_tables(tables: Sequence[Table], output_format: str | None, wide: bool = False) -> None:
    """Print tables; without a format, as text on a terminal and as Markdown elsewhere.

    On a terminal, text fits by wrapping headers, unless `wide`.
    """
    from gridrun.tables import csv, latex, render

    on_terminal = bool(sys.stdout and sys.stdout.isatty())
    output_format = output_format or ("text" if on_terminal else "md")
    width = shutil.get_terminal_size().columns if on_terminal and not wide else None
    if output_format == "json":
        click.echo(render.to_json(tables))
        return
    formatters: dict[str, Callable[[Table], str]] = {
        "text": functools.partial(render.to_text, width=width),
        "md": render.to_markdown,
        "csv": csv.to_csv,
        "latex": latex.to_latex,
    }
    if tables:
        click.echo("\n\n".join(formatters[output_format](table).rstrip() for table in tables))


def show_summary(summary: Summary, results: Path, grids: GridOptions) -> None:
    """Print to stderr how a launch ended; `grids` are those that the user named."""
    counts = format_counts(summary.plan.counts)
    if not summary.started and not summary.interrupted:
        click.echo(f"Nothing to do: {counts}.", err=True)
    else:
        click.echo(f"{counts} of {number_of(len(summary.plan.trials), 'trial')} in {results}.", err=True)
    if summary.elsewhere:
        trials = number_of(summary.elsewhere, "trial")
        click.echo(f"Other launches trained {trials} of these meanwhile.", err=True)
    if summary.interrupted:
        click.echo(INTERRUPTED, err=True)
    elif summary.failed:
        where = [] if results == Path("results") else ["--results", str(results)]
        named = [*map(str, grids.paths), *grids.arguments, *where]
        retry = shlex.join(["gridrun", "retry", *named, "--failed"])
        click.echo(f"`gridrun status` shows why trials failed, `{retry}` retries them.", err=True)
    if summary.failed_in_a_row:
        trials = number_of(summary.failed_in_a_row, "trial")
        click.echo(f"Stopped: {trials} in a row failed. Run the same command again to resume.", err=True)


def show_missing_weights(plan: Plan, store: Store) -> None:
    """Print to stderr how many done trials have no kept weights."""
    missing = sum(not store.weights_path(trial.trial_id).exists() for trial in plan.ended("done"))
    if missing:
        trials = number_of(missing, "done trial")
        click.echo(f"No weights for {trials}: done trials are not trained again for them.", err=True)


def show_changed_sources(plan: Plan, store: Store) -> None:
    """Print to stderr how many done trials were trained with other source files than today's."""
    from gridrun.changed_code import source_notes

    done = plan.ended("done")
    rows = store.rows([trial.trial_id for trial in done], ("sources",)) if done else {}
    known = ((trial.config, rows[trial.trial_id].get("sources")) for trial in done if trial.trial_id in rows)
    for note in source_notes(known):
        click.echo(f"Note: {note}.", err=True)


def exit_with(summary: Summary) -> None:
    """Exit with the code for how a launch ended; return if all went well."""
    if summary.interrupted:
        raise SystemExit(130)
    if summary.failed:
        raise SystemExit(1)


def show_plan(
    plan: Plan,
    forecast: Forecast,
    budget_hours: float | None,
    change: Change | None = None,
    as_json: bool = False,
    searches: Sequence[Progress] = (),
    price_per_hour: float | None = None,
) -> None:
    """Print a plan, and how it differs from what earlier launches asked for. Exit 1 over the budget.

    Of `searches`, the plan has the current round, and the forecast all that is left.
    """
    from gridrun.sweep import over_budget

    if as_json:
        found = _plan_dict(plan, forecast, change, price_per_hour)
        echo_json({**found, "searches": [as_dict(each) for each in searches]})
    else:
        for progress in searches:
            click.echo(describe_round(progress))
        _show_plan(plan, forecast, change, price_per_hour)
    if problem := over_budget(forecast, budget_hours):
        click.echo(problem, err=True)
        raise SystemExit(1)


def _show_plan(plan: Plan, forecast: Forecast, change: Change | None, price_per_hour: float | None) -> None:
    click.echo(f"{number_of(len(plan.trials), 'trial')}: {format_counts(plan.counts)}")
    shared = plan.num_requested - len(plan.trials)
    if shared:
        saved = f"; {_hours(forecast, forecast.shared_hours)} saved" if forecast.shared_hours else ""
        click.echo(f"{shared} more are asked for twice and trained once{saved}")
    if change and (change.added or change.dropped):
        counts = {"added": len(change.added), "no longer asked for": len(change.dropped)}
        kept = " (their results stay in the store)" if change.dropped else ""
        click.echo(f"since earlier launches: {format_counts(counts)}{kept}")
    if not forecast.trials:
        return
    from gridrun.grid.describe import tell_apart

    click.echo(format_estimate(forecast))
    if expense := format_expense(forecast, price_per_hour):
        click.echo(expense)
    shown = forecast.trials[:MAX_TRIALS_SHOWN]
    times = [_time_left(forecast, trial) for trial in shown]
    width = max(map(len, times))
    alike, own = tell_apart(shown, plan.names)
    if alike:
        whose = "all" if len(shown) == len(forecast.trials) else f"these {len(shown)}"
        click.echo(f"{whose}: {alike}")
    for trial, time in zip(shown, times, strict=True):
        text = printable(own[trial.trial_id])
        click.echo(f"  {trial.trial_id}  {time:>{width}}{'  ' if time else ''}{text}".rstrip())
    if len(forecast.trials) > MAX_TRIALS_SHOWN:
        click.echo(f"  ... and {len(forecast.trials) - MAX_TRIALS_SHOWN} more (--json shows all)")


def _time_left(forecast: Forecast, trial: Trial) -> str:
    """Return how long a trial takes: `~22m`, as a guess `10m..90m`; empty if that is not known."""
    if forecast.is_relative:
        return ""
    if found := forecast.range_of(trial):
        return "..".join(map(_rough, found))
    return f"~{format_time(forecast.left[trial.trial_id])}"


def format_estimate(forecast: Forecast) -> str:
    """Return in one line how long the trials take, and what the estimate rests on."""
    capacity = forecast.capacity
    on = f"on {number_of(capacity.gpus if capacity.unit == 'GPU' else capacity.cpus, capacity.unit)}"
    rests_on = format_counts(forecast.rests_on)
    trust = forecast.trust if forecast.is_relative else f"{rests_on}, {forecast.trust}"
    if forecast.num_unmeasured:
        trials = number_of(forecast.num_unmeasured, "trial")
        trust += f"; a GPU for each of {trials} is a guess, to be measured"
    if capacity.measures_threads:
        trust += "; 1 thread a trial is a guess, to be measured"
    if forecast.makespan_seconds is None:
        return f"longest first {on} ({trust})"
    if math.isinf(forecast.makespan_seconds):
        return f"some trials fit nowhere {on}; {_hours(forecast, forecast.hours)} in all ({trust})"
    if forecast.makespan_range and forecast.hours_range:
        least, most = map(_rough, forecast.makespan_range)
        low = format_amount(forecast.hours_range[0])
        hours = f"{low} to {_hours(forecast, forecast.hours_range[1])}"
        return f"a guess: {least} to {most} {on}, {hours} ({trust})"
    time = format_time(forecast.makespan_seconds)
    return f"about {time} {on}, {_hours(forecast, forecast.hours)} ({trust})"


def format_expense(forecast: Forecast, price_per_hour: float | None) -> str:
    """Return in one line what the trials take in energy and money; empty if neither is known."""
    texts = [] if forecast.kwh is None else [f"about {format_amount(forecast.kwh)} kWh"]
    if price_per_hour is not None and forecast.hours is not None:
        least, most = (price_per_hour * hours for hours in forecast.hours_range or 2 * (forecast.hours,))
        costs = f"{least:,.2f}" if least == most else f"{least:,.2f} to {most:,.2f}"
        texts.append(f"costs {costs} at {price_per_hour:g} for a {forecast.capacity.unit}-hour")
    return ", ".join(texts)


def _rough(seconds: float) -> str:
    """Write a time that is a guess: from ten hours on two digits, `280h`."""
    if seconds < 36_000:
        return format_time(seconds)
    return f"{float(f'{seconds / 3600:.2g}'):,.0f}h"


def _hours(forecast: Forecast, hours: float | None) -> str:
    return f"{format_amount(hours or 0.0)} {forecast.capacity.unit}-hours"


def _plan_dict(
    plan: Plan, forecast: Forecast, change: Change | None, price_per_hour: float | None
) -> dict[str, Any]:
    price, hours = price_per_hour, forecast.hours
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
            "makespan_range_seconds": forecast.makespan_range,
            "hours": forecast.hours,
            "hours_range": forecast.hours_range,
            "hours_saved_by_sharing": forecast.shared_hours,
            "hours_of": capacity.unit,
            "kwh": forecast.kwh,
            "price": None if price is None or hours is None else price * hours,
            "unmeasured": forecast.num_unmeasured,
            "is_relative": forecast.is_relative,
            "trust": forecast.trust,
            "rests_on": forecast.rests_on,
            "bases": Counter(forecast.costs[trial.trial_id].basis for trial in forecast.trials),
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
                "range_seconds": forecast.range_of(trial),
            }
            for trial in forecast.trials
        ],
    }
