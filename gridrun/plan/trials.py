"""The trials that grids request: which have ended, which to run, and what an edit of a grid has changed."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gridrun.errors import LaunchError
from gridrun.trial import Trial, config_of, digest
from trainer import ConfigError

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.store import Store

TO_RETRY = "to be tried again"
"""How counts call failed trials that will run again. It is no status of a record."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Every trial that some grids request, each once, ordered by round."""

    trials: tuple[Trial, ...]
    num_requested: int
    """Number of trials if each row counts its own; larger than `len(trials)` where rows share some."""
    status: Mapping[str, str]
    """Status of each trial that has ended, by trial id."""
    rounds: Mapping[str, int] = field(default_factory=dict)
    """By trial id. Round 0 has the first seed of every row, round 1 the second ..."""
    shared: Mapping[str, int] = field(default_factory=dict)
    """How many more rows request a trial, by trial id; trials of one row are left out."""
    to_retry: frozenset[str] = frozenset()
    """Ids of the failed and diverged trials that will run again."""
    last: frozenset[str] = frozenset()
    """Ids of the trials that are left for last."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Names of cases, by the ids of their trials."""
    trained_anew: frozenset[str] = frozenset()
    """Ids of the ended trials that --again names, but that it has trained anew before it was stopped."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """Of each trial that goes on from another's state, the id of that one, by trial id."""

    @property
    def missing(self) -> tuple[Trial, ...]:
        """Trials that have not ended."""
        return tuple(trial for trial in self.trials if trial.trial_id not in self.status)

    @property
    def to_start(self) -> tuple[Trial, ...]:
        """Missing trials, then those to retry."""
        return (*self.missing, *(trial for trial in self.trials if trial.trial_id in self.to_retry))

    def ended(self, *statuses: str) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.trials if self.status.get(trial.trial_id) in statuses)

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by status, and missing ones. Trials to retry are counted as such alone."""
        found = Counter(status for trial_id, status in self.status.items() if trial_id not in self.to_retry)
        return {
            **{status: found[status] for status in ("done", "diverged", "failed")},
            **({TO_RETRY: len(self.to_retry)} if self.to_retry else {}),
            "missing": len(self.trials) - len(self.status),
        }


def make_plan(grids: Sequence[Grid], statuses: Mapping[str, str]) -> Plan:
    """Return the plan for `grids`, given the status of every ended trial by id."""
    rows = [row for grid in grids for row in grid.rows]
    requests = Counter(trial_id for row in rows for trial_id in row.trial_ids)
    trials: dict[str, Trial] = {}
    rounds: dict[str, int] = {}
    for number, column in enumerate(itertools.zip_longest(*(row.trials for row in rows))):
        for trial in column:  # None for a row with fewer seeds than others
            if trial is not None and trial.trial_id not in trials:
                trials[trial.trial_id] = trial
                rounds[trial.trial_id] = number
    return Plan(
        trials=tuple(trials.values()),
        num_requested=requests.total(),
        status={trial_id: statuses[trial_id] for trial_id in trials if trial_id in statuses},
        rounds=rounds,
        shared={trial_id: count - 1 for trial_id, count in requests.items() if count > 1},
        names={trial_id: row.name for row in reversed(rows) if row.name for trial_id in row.trial_ids},
        parents={child: parent for grid in grids for child, parent in grid.parents.items()},
    )


@dataclass(frozen=True, slots=True)
class Change:
    """How a plan differs from what earlier launches of its grids requested."""

    added: tuple[Trial, ...]
    """Trials requested for the first time."""
    dropped: tuple[str, ...]
    """Ids of ended trials that are no longer requested."""


def requested_name(grid: Grid, store: Store) -> str:
    """Return the name under which a store remembers the trials that launches of a grid requested.

    The name has the file's path relative to the store, so that both can move together. It also has the
    settings from the command line: a launch with `--set` is another grid, not an edit of this one.
    """
    place = os.path.relpath(grid.path.resolve(), store.root.resolve())
    return f"{grid.name}.{digest([place, grid.variant])}"


def changed(
    grids: Sequence[Grid], plan: Plan, before: Sequence[Collection[str]], statuses: Mapping[str, str]
) -> Change | None:
    """Compare a plan with earlier launches. Return None if none of its grids was ever launched.

    `before` has the ids that launches of each grid have requested (`store.requested`). `statuses` has the
    status of every ended trial of the store.
    """
    known = {trial_id for ids in before for trial_id in ids}
    if not known:
        return None
    launched = [grid for grid, ids in zip(grids, before, strict=True) if ids]
    added = {t.trial_id: t for grid in launched for t in grid.trials if t.trial_id not in known}
    wanted = {trial.trial_id for trial in plan.trials}
    return Change(tuple(added.values()), tuple(sorted(i for i in known - wanted if i in statuses)))


def select_trials(plan: Plan, only: Sequence[str]) -> tuple[Trial, ...]:
    """Return the trials to start whose ids begin with one of `only`; all of them if `only` is empty.

    Raises:
        LaunchError: no trial of the plan has such an id.
    """
    selected = selected_ids(plan, only)
    return tuple(trial for trial in plan.to_start if trial.trial_id in selected)


def selected_ids(plan: Plan, only: Sequence[str]) -> frozenset[str]:
    """Return the ids of the plan's trials that begin with one of `only`, as above."""
    full_ids = {trial.trial_id for trial in plan.trials}.intersection(only)  # `retry` names thousands
    prefixes = tuple(text for text in only if text not in full_ids)
    for prefix in prefixes:
        if not prefix or not any(trial.trial_id.startswith(prefix) for trial in plan.trials):
            raise LaunchError(
                f"no trial of these grids has an id that begins with {prefix!r}; `gridrun plan` lists them"
            )
    ids = [trial.trial_id for trial in plan.trials]
    return frozenset(i for i in ids if not only or i in full_ids or i.startswith(prefixes))


def restrict(plan: Plan, trials: Collection[Trial]) -> Plan:
    """Return the part of a plan that is about some of its trials."""
    ids = {trial.trial_id for trial in trials}
    return replace(
        plan,
        trials=tuple(trials),
        num_requested=len(trials),
        status={trial_id: status for trial_id, status in plan.status.items() if trial_id in ids},
        shared={},
        to_retry=plan.to_retry & ids,
    )


def stored_trials(store: Store, statuses: Collection[str]) -> tuple[list[Trial], dict[str, str]]:
    """Return the stored trials that have one of `statuses`, to run them again without their grids.

    Also returns by trial id why some of them are left out: this version cannot read the config, or trains it
    differently and so gives it another id.
    """
    trials: list[Trial] = []
    left_out: dict[str, str] = {}
    for trial_id, row in store.rows(columns=("config_json", "seed")).items():
        if row["status"] not in statuses:
            continue
        try:
            trial = Trial(config_of(row["config_json"]), row["seed"])
        except ConfigError as error:
            left_out[trial_id] = str(error)
        else:
            if trial.trial_id == trial_id:
                trials.append(trial)
            else:
                left_out[trial_id] = "this version trains it differently"
    return trials, left_out
