"""Which ended trials to train anew: those of some ids, or of source code that is another one today."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gridrun.changed_code import is_of_today, recorded_sources
from gridrun.errors import LaunchError
from gridrun.plan.trials import Plan
from gridrun.trial import SHORTEST_ID, Trial
from trainer.registry import did_you_mean
from trainer.sources import digest_of_source, sources

if TYPE_CHECKING:
    from gridrun.store import Store

ALL = "all"


def with_again(plan: Plan, what: Sequence[str], store: Store, commit: str | None) -> Plan:
    """Return a plan in which the ended trials that `what` names are missing.

    The same `what` resumes a launch that was stopped: see `_trained_anew`. One that has ended starts over.

    Args:
        what: `all`; the beginning of a trial's or a config's id; or the path of a part's source, such as
            `trainer/models/wrn`, for its trials that do not say that they were trained with today's.
        commit: that of today's code; None if it is not known, or if there are uncommitted changes.

    Raises:
        LaunchError: no trial of the plan has such an id or source.
    """
    ended = [trial for trial in plan.trials if trial.trial_id in plan.status]
    of_source, named = set[str](), set[str]()
    for each in what:
        if each == ALL:
            named.update(trial.trial_id for trial in plan.trials)
        elif "/" in each:
            of_source.update(_of_source(plan.trials, ended, each, store))
        else:
            named.update(_of_id(plan.trials, each))
    trained = _trained_anew([t for t in plan.trials if t.trial_id in named], plan, store, commit)
    anew = of_source | named - trained
    status = {trial_id: status for trial_id, status in plan.status.items() if trial_id not in anew}
    return replace(plan, status=status, trained_anew=trained - of_source)


def _trained_anew(named: Sequence[Trial], plan: Plan, store: Store, commit: str | None) -> frozenset[str]:
    """Return the ids of those trials that a launch with --again, which was stopped, has trained anew.

    It took all of them out before the first began. So it is not over while one of those is missing, and its
    records are those of trials that were taken out, with today's commit and sources. Uncommitted changes have
    no name: with them, it starts over.
    """
    if commit is None:
        return frozenset()
    out = store.forgotten_ids()
    taken = [trial for trial in named if trial.trial_id in out]
    ended = [trial for trial in taken if trial.trial_id in plan.status]
    if not ended or len(ended) == len(taken):
        return frozenset()
    rows = store.rows([trial.trial_id for trial in ended], ("commit", "dirty", "sources"))
    digest_of = functools.cache(digest_of_source)
    return frozenset(
        trial.trial_id
        for trial in ended
        if (row := rows.get(trial.trial_id))
        and (row.get("commit"), row.get("dirty")) == (commit, False)
        and recorded_sources(row.get("sources")) == sources(trial.config, digest_of)
    )


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
