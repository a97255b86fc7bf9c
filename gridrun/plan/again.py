"""Which ended trials to train anew: those of some ids, or of source code that is another one today."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gridrun.changed_code import is_of_today
from gridrun.errors import LaunchError
from gridrun.plan.trials import Plan
from gridrun.trial import Trial
from trainer.registry import did_you_mean
from trainer.sources import sources

if TYPE_CHECKING:
    from gridrun.store import Store

ALL = "all"
SHORTEST_ID = 4
"""Shortest beginning of an id."""


def chosen(plan: Plan, what: Sequence[str], store: Store) -> frozenset[str]:
    """Return the ids of the ended trials of a plan that `what` names.

    Args:
        what: `all`; the beginning of a trial's or a config's id; or the path of a part's source, such as
            `trainer/models/wrn`, for its trials that do not say that they were trained with today's. So the
            same path again, after an interruption, leaves out those that have been trained anew.

    Raises:
        LaunchError: no trial of the plan has such an id or source.
    """
    ended = [trial for trial in plan.trials if trial.trial_id in plan.status]
    found: set[str] = set()
    for each in what:
        if each == ALL:
            found.update(trial.trial_id for trial in ended)
        elif "/" in each:
            found.update(_of_source(plan.trials, ended, each, store))
        else:
            found.update(_of_id(plan.trials, each) & plan.status.keys())
    return frozenset(found)


def _of_id(trials: Iterable[Trial], start: str) -> set[str]:
    found = {t.trial_id for t in trials if t.trial_id.startswith(start) or t.config_id.startswith(start)}
    if len(start) < SHORTEST_ID or not found:
        raise LaunchError(
            f"--again {start}: no id of a trial or row of these grids begins so (4 characters or more); "
            f"it takes an id, a source such as trainer/models/wrn, or {ALL}"
        )
    return found


def _of_source(trials: Sequence[Trial], ended: Sequence[Trial], path: str, store: Store) -> set[str]:
    place = path.rstrip("/").removesuffix(".py").removesuffix("/__init__")
    known = {name for trial in trials for name in sources(trial.config)}
    name = next((each for each in known if place == each or place.startswith(f"{each}/")), None)
    if name is None:
        raise LaunchError(f"--again {path}: no trial of these grids uses it.{did_you_mean(place, known)}")
    of_part = [trial for trial in ended if name in sources(trial.config)]
    rows = store.rows([trial.trial_id for trial in of_part], ("sources",)) if of_part else {}
    return {
        trial.trial_id
        for trial in of_part
        if not is_of_today(name, trial.config, rows.get(trial.trial_id, {}).get("sources"))
    }
