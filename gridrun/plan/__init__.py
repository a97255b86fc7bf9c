"""What a sweep has to do: the trials wanted, less those that have ended, in order, and how long it takes."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gridrun.plan.packing import footprint, past_shares
from gridrun.plan.schedule import Job, makespan, ordered
from gridrun.resources import Capacity
from gridrun.trial import Trial, digest

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.plan.costs import Cost, Costs
    from gridrun.store import Store
    from trainer import TrainConfig
    from trainer.metrics import Epoch

AGAIN = "to be tried again"
"""What is counted beside the statuses."""
_TURN_AGAIN = 0.5
"""Of a turn: tries after the first come behind the first ones of the same seed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Every trial that some grids ask for, once, the first seed of every row before the second."""

    trials: tuple[Trial, ...]
    asked_for: int
    """Trials counted once a grid, so that what several grids share shows."""
    status: Mapping[str, str]
    """Of the trials that have ended, by trial id."""
    turns: Mapping[str, int] = field(default_factory=dict)
    """By trial id: 0 for the first seed of a row, 1 for the second ..."""
    shared: Mapping[str, int] = field(default_factory=dict)
    """How many grids more than one ask for a trial, by trial id; those of one grid alone are left out."""
    again: frozenset[str] = frozenset()
    """Ids of those that have failed or diverged and are to be tried again."""

    @property
    def missing(self) -> tuple[Trial, ...]:
        """Trials that have not ended."""
        return tuple(trial for trial in self.trials if trial.trial_id not in self.status)

    @property
    def to_start(self) -> tuple[Trial, ...]:
        """Trials that have not ended, and those that are to be tried again."""
        return (*self.missing, *(trial for trial in self.trials if trial.trial_id in self.again))

    def ended(self, *statuses: str) -> tuple[Trial, ...]:
        """Trials that have ended in one of `statuses`."""
        return tuple(trial for trial in self.trials if self.status.get(trial.trial_id) in statuses)

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by status, and `missing`; of those to be tried again, if any, apart."""
        found = Counter(status for trial_id, status in self.status.items() if trial_id not in self.again)
        return {
            **{status: found[status] for status in ("done", "diverged", "failed")},
            **({AGAIN: len(self.again)} if self.again else {}),
            "missing": len(self.trials) - len(self.status),
        }


def make_plan(grids: Sequence[Grid], statuses: Mapping[str, str]) -> Plan:
    """Return the plan for `grids`, given the status of every ended trial by id."""
    by_turn: dict[int, dict[str, Trial]] = defaultdict(dict)
    asked: Counter[str] = Counter()
    for grid in grids:
        for row in grid.rows:
            for turn, trial in enumerate(row.trials):
                by_turn[turn].setdefault(trial.trial_id, trial)
        asked.update([trial_id for row in grid.rows for trial_id in row.trial_ids])
    turns: dict[str, int] = {}
    trials: dict[str, Trial] = {}
    for turn, found in sorted(by_turn.items()):
        new = {i: trial for i, trial in found.items() if i not in trials} if trials else found
        trials.update(new)
        turns.update(dict.fromkeys(new, turn))
    return Plan(
        trials=tuple(trials.values()),
        asked_for=asked.total(),
        status={trial_id: statuses[trial_id] for trial_id in trials if trial_id in statuses},
        turns=turns,
        shared={trial_id: count - 1 for trial_id, count in asked.items() if count > 1}
        if asked.total() > len(trials)
        else {},
    )


@dataclass(frozen=True, slots=True)
class Change:
    """What a plan asks for beside what launches of the same grids have asked for before."""

    added: tuple[Trial, ...]
    """Wanted now, and never before."""
    dropped: tuple[str, ...]
    """Ids of trials that have ended, were wanted before, and are no longer."""


def asked_name(grid: Grid, store: Store) -> str:
    """Return the name under which a store remembers what launches of a grid have asked for.

    It is of the file as seen from the store, so that both may move together, and of the form that the
    command line gives it: who tries the grid with other settings has not edited it.
    """
    place = os.path.relpath(grid.path.resolve(), store.root.resolve())
    return f"{grid.name}.{digest([place, grid.form])}"


def changed(
    grids: Sequence[Grid], plan: Plan, before: Sequence[Collection[str]], statuses: Mapping[str, str]
) -> Change | None:
    """Compare a plan with what was asked for before, None if none of the grids has been launched yet.

    Args:
        grids: those of the plan.
        plan: as of now.
        before: ids of the trials that launches of each have asked for (`Store.asked`).
        statuses: of every ended trial of the store.
    """
    known = {trial_id for ids in before for trial_id in ids}
    if not known:
        return None
    launched = [grid for grid, ids in zip(grids, before, strict=True) if ids]
    added = {t.trial_id: t for grid in launched for t in grid.trials if t.trial_id not in known}
    wanted = {trial.trial_id for trial in plan.trials}
    return Change(tuple(added.values()), tuple(sorted(i for i in known - wanted if i in statuses)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What some trials are going to take."""

    trials: tuple[Trial, ...]
    """In the order in which they are to start."""
    costs: Mapping[str, Cost]
    """Of each whole trial, by id."""
    left: Mapping[str, float]
    """What is left of each after its checkpoint, by id, as `costs` counts it."""
    capacity: Capacity
    trust: str
    """What the estimates rest on, in words."""
    num_unmeasured: int
    """Trials that may turn out to share a GPU; one each is a guess."""
    is_relative: bool
    """Whether the costs are no seconds."""
    makespan_seconds: float | None
    """Until the last trial ends, those included that run; None if no time can be told. Infinite, if a trial
    fits nowhere."""
    hours: float | None
    """GPU-hours, or core-hours on a machine without (`Capacity.unit`)."""
    shared_hours: float | None
    """As many more there would be if grids did not share trials, those that are done included."""

    @property
    def bases(self) -> dict[str, int]:
        """Number of trials by what their estimates rest on."""
        return dict(Counter(self.costs[trial.trial_id].basis for trial in self.trials))


def forecast(
    plan: Plan,
    trials: Sequence[Trial],
    costs: Costs,
    capacity: Capacity,
    epochs: Mapping[str, int] | None = None,
    running: Collection[Trial] = (),
    shares: Mapping[TrainConfig, float] | None = None,
) -> Forecast:
    """Put trials of a plan in order, and estimate how long they take.

    Args:
        plan: what they are part of.
        trials: those to start.
        costs: estimates each.
        capacity: what they are run on.
        epochs: last finished epoch of trials that have been started, by trial id.
        running: trials that run already.
        shares: of a GPU, by footprint, where a launch measures them; what is not known yet has one alone.
    """
    found = {trial.trial_id: costs.of(trial.config, trial.config_id) for trial in (*trials, *running)}
    left = {i: cost.amount for i, cost in found.items()}
    for trial in (*trials, *running) if epochs else ():
        epoch = epochs.get(trial.trial_id, 0) if epochs else 0
        left[trial.trial_id] *= max(1 - epoch / trial.config.epochs, 0.0)

    def num_gpus(trial: Trial) -> float:
        share = shares.get(footprint(trial.config)) if shares and trial.config.num_gpus == 1 else None
        return trial.config.num_gpus if share is None else share

    def job(trial: Trial) -> Job[Trial]:
        turn = plan.turns.get(trial.trial_id, 0) + (_TURN_AGAIN if trial.trial_id in plan.again else 0)
        return Job(trial, left[trial.trial_id], turn, num_gpus(trial))

    under_way = [job(trial) for trial in running]
    jobs = ordered(map(job, trials), capacity, under_way)

    def hours(trial: Trial, seconds: float) -> float:
        return seconds * capacity.taken(num_gpus(trial)) / 3600

    by_id = {trial.trial_id: trial for trial in plan.trials} if plan.shared else {}
    shared = {
        i: costs.of(by_id[i].config, by_id[i].config_id).amount * more
        for i, more in plan.shared.items()
        if i in by_id
    }
    timed = not costs.is_relative
    return Forecast(
        trials=tuple(job.what for job in jobs),
        costs=found,
        left=left,
        capacity=capacity,
        trust=costs.trust,
        num_unmeasured=sum(
            shares is not None and trial.config.num_gpus == 1 and footprint(trial.config) not in shares
            for trial in trials
        ),
        is_relative=costs.is_relative,
        makespan_seconds=makespan(jobs, capacity, under_way) if timed else None,
        hours=sum(hours(trial, left[trial.trial_id]) for trial in trials) if timed else None,
        shared_hours=sum(hours(by_id[i], seconds) for i, seconds in shared.items()) if timed else None,
    )


def forecast_from(
    store: Store,
    plan: Plan,
    trials: Sequence[Trial],
    capacity: Capacity,
    running: Mapping[Trial, Epoch | None] | None = None,
) -> Forecast:
    """Do what `forecast` does, with the past and the checkpoints of a store.

    `running` has the last epoch of each trial that runs, None before its first.
    """
    from gridrun.plan.costs import PAST_COLUMNS, Costs
    from gridrun.resources import gpu_names, this_machine

    hardware = this_machine(capacity.share()[1], capacity.cpus_per_trial)
    past = list(store.rows(columns=PAST_COLUMNS).values()) if trials or running or plan.shared else []
    shares = None
    if capacity.is_measured:
        shares = past_shares(past, gpu_names())
        past = [{**row, "gpu_share": None} for row in past]  # each config has its own
    seen = {trial: epoch for trial, epoch in (running or {}).items() if epoch}
    pace = {trial: trial.config.epochs * epoch.train_seconds for trial, epoch in seen.items()}
    epochs = store.checkpointed() | {trial.trial_id: epoch.epoch for trial, epoch in seen.items()}
    return forecast(plan, trials, Costs(past, hardware, pace), capacity, epochs, running or (), shares)
