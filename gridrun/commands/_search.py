"""Searches in words, and what is left of them. Imports neither torch nor ray."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gridrun.text import format_percent, number_of, printable

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.plan import Forecast, Plan
    from gridrun.search import Progress, Segment
    from gridrun.store import Store
    from gridrun.sweep.options import LaunchOptions


def progress_of(grids: Iterable[Grid], store: Store) -> list[Progress]:
    """Return how far each search among some grids is."""
    searches = [grid for grid in grids if grid.search]
    if not searches:
        return []
    from gridrun.search import read_progress

    return [read_progress(grid, store) for grid in searches]


def to_train(grids: Iterable[Grid], searches: Iterable[Progress]) -> list[Grid]:
    """Return the grids, with the current round of each search in place of its file."""
    return [*(grid for grid in grids if not grid.search), *(progress.grid for progress in searches)]


def estimate(progress: Progress, store: Store, options: LaunchOptions) -> tuple[Plan, Forecast]:
    """Return the plan of a search's current round, and the forecast of all that is left of the search."""
    from gridrun.plan import forecast_from
    from gridrun.sweep import plan_launch

    plan = plan_launch([progress.grid], store, options)
    return plan, progress.forecast(forecast_from(store, plan, plan.to_start, options.capacity))


def describe_round(progress: Progress) -> str:
    """Return in one line how far a search is."""
    search, number = progress.search, min(segment.round for segment in progress.current)
    members = f"{progress.name}: {search.population} members"
    best = f"; best so far: {describe_best(progress)}" if progress.best else ""
    if progress.is_over:
        return f"{members}, {number_of(search.epochs, 'epoch')}: done; best: {describe_best(progress)}"
    ended = sum(segment.trial.trial_id in progress.errors for segment in progress.current)
    if search.asynchronous:
        last = [search.last_epoch(segment.round) for segment in progress.current]
        between = f"epochs {min(last)} to {max(last)} of {search.epochs}"
        return f"{members}, asynchronous, {between}: {len(progress.errors)} segments done{best}"
    epochs = f"epochs {search.last_epoch(number - 1) + 1} to {search.last_epoch(number)} of {search.epochs}"
    return f"{members}, round {number} of {search.num_rounds} ({epochs}): {ended} done{best}"


def describe_best(progress: Progress) -> str:
    """Return in a few words which member is the best."""
    best = progress.best
    error = progress.errors[best.trial.trial_id] if best else None
    if best is None or error is None:
        return "none, all members have diverged"
    return f"member {best.member}, validation error {format_percent(error)} %"


def describe_exploits(progress: Progress) -> str:
    """Return in a few words who has taken over whose state for the current round."""
    pairs = [(segment.member, segment.donor) for segment in progress.current if not progress.is_over]
    taken = [f"{member} from {donor}" for member, donor in pairs if donor is not None]
    return f"members that go on from others: {', '.join(taken)}" if taken else ""


def lines_of(path: Sequence[Segment], progress: Progress) -> list[str]:
    """Describe the segments that a member's weights have gone through, one line for each policy."""
    lines = []
    for schedule, group in itertools.groupby(path, key=lambda segment: segment.schedule):
        segments = list(group)
        first, last = segments[0], segments[-1]
        epochs = f"{progress.search.last_epoch(first.round - 1) + 1}-{progress.search.last_epoch(last.round)}"
        came = f", from member {first.donor}" if first.donor is not None else ""
        error = progress.errors.get(last.trial.trial_id)
        measured = "" if error is None else f", validation error {format_percent(error)} %"
        about = f"epochs {epochs}: member {first.member}{came}{measured}, {last.trial.trial_id}"
        lines += [about, f"  {schedule[-1][1] or 'no operation'}"]
        lines += [f"  {note}" for note in filter(None, (note_on(segment, progress) for segment in segments))]
    return lines


def note_on(segment: Segment, progress: Progress) -> str:
    """Return what happened to a segment in a line, empty if nothing did."""
    notes = printable(progress.notes_on(segment))
    return f"{segment.trial.trial_id}: {notes}" if notes else ""


def as_dict(progress: Progress) -> dict[str, Any]:
    """Return how far a search is as plain data."""
    best = progress.best
    return {
        "name": progress.name,
        "search_id": progress.search.search_id,
        "round": min(segment.round for segment in progress.current),
        "rounds": progress.search.num_rounds,
        "is_over": progress.is_over,
        "best_member": best.member if best else None,
        "best_val_error": progress.errors[best.trial.trial_id] if best else None,
        "members": [
            dataclasses.asdict(row)
            for row in progress.lineage()
            if row.trial_id == progress.current[row.member].trial.trial_id
        ],
    }
