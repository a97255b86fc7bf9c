"""What is going on in a store: trials by status, running trials and launches."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gridrun.grid import Grid
from gridrun.plan.trials import TO_RETRY, make_plan
from gridrun.store import Store
from gridrun.store.launches import LaunchState, Running


class Overview(NamedTuple):
    """The state of a store, or of some grids in it, at one moment."""

    counts: dict[str, int]
    """Trials by status, without running ones. Failed trials that a launch will retry are counted apart."""
    running: list[Running]
    launches: list[LaunchState]
    """Every launch that uses the store now."""
    unsuccessful: list[str]
    """Ids of trials that failed or diverged and wait for no retry."""
    saved: dict[str, tuple[int, int | None]]
    """Trials that have a checkpoint, do not run and are not done: the last epoch, and how many the trial has,
    which only grids say. By trial id."""


def overview(store: Store, grids: Sequence[Grid] | None, others: Sequence[str] = ()) -> Overview:
    """Return the state of some grids and of other trials, or of the whole store if `grids` is None.

    Args:
        store: where the trials are.
        grids: whose trials to count.
        others: ids of trials to count beside these, such as those of earlier rounds of a search.
    """
    statuses: Mapping[str, str] = store.statuses()
    launches = store.launches.running()
    running = {
        run.trial_id: run
        for state in launches
        for run in state.running
        if statuses.get(run.trial_id) != "done"  # it ended since the launch wrote its state
    }
    statuses = {i: status for i, status in statuses.items() if i not in running}
    retries = frozenset(i for state in launches for i in state.again if statuses.get(i) == "failed")
    saved: dict[str, tuple[int, int | None]] = {
        i: (epoch, None)
        for i, epoch in store.checkpointed().items()
        if i not in running and statuses.get(i) != "done"
    }
    if grids is None:
        counts = dict(Counter(TO_RETRY if i in retries else status for i, status in statuses.items()))
    else:
        plan = make_plan(grids, statuses)
        epochs = {**dict.fromkeys(others), **{t.trial_id: t.config.last_epoch for t in plan.trials}}
        running = {i: running[i] for i in epochs if i in running}
        statuses = {i: statuses[i] for i in epochs if i in statuses}
        plan = dataclasses.replace(plan, status=statuses, to_retry=retries.intersection(statuses))
        saved = {i: (saved[i][0], epochs[i]) for i in epochs if i in saved}
        counts = {**plan.counts, "missing": len(epochs) - len(statuses) - len(running)}
    unsuccessful = [i for i, status in statuses.items() if status != "done" and i not in retries]
    return Overview(counts, list(running.values()), launches, unsuccessful, saved)
