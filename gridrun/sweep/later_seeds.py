"""The seeds that rows with `seeds: auto` get while a launch runs."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence

from gridrun.grid import Grid
from gridrun.looks import adaptive_rows, settle
from gridrun.plan import Plan
from gridrun.store import Store
from gridrun.sweep.queue import QueuedTrial
from gridrun.trial import Trial

More = Callable[[Trial], Iterable[QueuedTrial]]
"""Returns the trials that are to run as well, now that this one has ended."""


def with_later_seeds(grids: Sequence[Grid], store: Store, plan: Plan, more: More) -> More:
    """Return `more` with the later seeds of rows whose look has decided nothing."""
    rows = {config_id for grid in grids for config_id in adaptive_rows(grid)}
    if not rows:
        return more
    planned = {trial.trial_id for trial in plan.trials}
    left = collections.defaultdict[str, set[str]](set)  # of each row, what this launch has yet to train
    for trial in plan.to_start:
        left[trial.config_id].add(trial.trial_id)

    def found(trial: Trial) -> Iterator[QueuedTrial]:
        yield from more(trial)
        if trial.config_id not in rows:
            return
        of_row = left[trial.config_id]
        of_row.discard(trial.trial_id)
        # another launch tells this one nothing of its trials; the one that hears of the last looks
        of_row -= {each for each in of_row if store.ended(each) in ("done", "diverged")}
        if not of_row:  # a look: it reads much of the store
            asked = (one for grid in settle(grids, store) for one in grid.trials)
            wanted = {one.trial_id: one for one in asked if one.trial_id not in planned}
            planned.update(wanted)
            for one in wanted.values():
                left[one.config_id].add(one.trial_id)
                yield QueuedTrial(one)

    return found
