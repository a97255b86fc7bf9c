"""The order in which trials will start, and an estimate of how long they take."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gridrun import resources
from gridrun.plan.costs import PAST_COLUMNS, Cost, Costs
from gridrun.plan.packing import footprint, past_shares
from gridrun.plan.schedule import Job, makespan, ordered
from gridrun.plan.trials import Plan
from gridrun.resources import Capacity
from gridrun.trial import Trial

if TYPE_CHECKING:
    from gridrun.store import Store
    from trainer import TrainConfig
    from trainer.metrics import Epoch

_RETRY_DELAY = 0.5
"""Rounds by which a retry is put back: behind the first attempts of its round, before the next round."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """In which order trials start, and how long they take."""

    trials: tuple[Trial, ...]
    """In the order in which they will start."""
    costs: Mapping[str, Cost]
    """Estimate of each trial from its first epoch to its last, by trial id."""
    left: Mapping[str, float]
    """What is left of each trial after its last checkpoint, by trial id, in the unit of `costs`."""
    capacity: Capacity
    trust: str
    num_unmeasured: int
    """Trials whose share of a GPU is not measured yet; the estimate gives each a whole GPU."""
    makespan_seconds: float | None
    """Until the last trial ends, running ones included. None if unknown, infinite if a trial fits nowhere."""
    hours: float | None
    """GPU-hours, or core-hours on a machine without GPUs (`Capacity.unit`). None if unknown."""
    shared_hours: float | None
    """Hours saved because grids share trials, counting those already done."""

    @property
    def is_relative(self) -> bool:
        """Whether costs only tell long trials from short ones; they are not seconds then."""
        return self.hours is None


def make_forecast(
    plan: Plan,
    trials: Sequence[Trial],
    costs: Costs,
    capacity: Capacity,
    epochs: Mapping[str, int] | None = None,
    running: Collection[Trial] = (),
    shares: Mapping[TrainConfig, float] | None = None,
) -> Forecast:
    """Put the `trials` of a plan that are to start in order, and estimate how long they take.

    Args:
        epochs: last finished epoch of trials that have a checkpoint, their own or a parent's, by trial id.
        running: trials that are running already.
        shares: part of a GPU by footprint, if the launch measures it; others get a whole GPU.
    """
    epochs = epochs or {}
    found: dict[str, Cost] = {}
    left: dict[str, float] = {}
    for trial in (*trials, *running):
        cost = costs.of(trial.config, trial.config_id)
        found[trial.trial_id] = cost
        done = epochs.get(trial.trial_id, 0) / trial.config.last_epoch
        left[trial.trial_id] = cost.amount * max(1 - done, 0.0)

    def num_gpus(trial: Trial) -> float:
        if not shares or trial.config.num_gpus != 1:
            return trial.config.num_gpus
        return shares.get(footprint(trial.config), 1)

    def job(trial: Trial) -> Job[Trial]:
        delay = _RETRY_DELAY if trial.trial_id in plan.to_retry else 0
        return Job(trial, left[trial.trial_id], plan.rounds.get(trial.trial_id, 0) + delay, num_gpus(trial))

    def hours(trial: Trial, seconds: float) -> float:
        return seconds * capacity.taken(num_gpus(trial)) / 3600

    running_jobs = [job(trial) for trial in running]
    jobs = ordered(map(job, trials), capacity, running_jobs)
    shared = [trial for trial in plan.trials if trial.trial_id in plan.shared]
    saved = [(t, costs.of(t.config, t.config_id).amount * plan.shared[t.trial_id]) for t in shared]
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
        makespan_seconds=makespan(jobs, capacity, running_jobs) if timed else None,
        hours=sum(hours(trial, left[trial.trial_id]) for trial in trials) if timed else None,
        shared_hours=sum(hours(trial, seconds) for trial, seconds in saved) if timed else None,
    )


def forecast_from(
    store: Store,
    plan: Plan,
    trials: Sequence[Trial],
    capacity: Capacity,
    running: Mapping[Trial, Epoch | None] | None = None,
) -> Forecast:
    """Make a forecast from the done trials and the checkpoints of a store.

    `running` has the last finished epoch of each running trial, None before its first.
    """
    hardware = resources.this_machine(capacity.share()[1], capacity.cpus_per_trial)
    past = list(store.rows(columns=PAST_COLUMNS).values()) if trials or running or plan.shared else []
    shares = None
    if capacity.is_measured:
        shares = past_shares(past, resources.gpu_names())
        # Each config has a share of its own then: compare times by GPU, not by GPU and share.
        past = [{**row, "gpu_share": None} for row in past]
    seen = {trial: epoch for trial, epoch in (running or {}).items() if epoch}
    pace = {trial: trial.config.last_epoch * epoch.train_seconds for trial, epoch in seen.items()}
    kept = store.checkpointed()
    begun = {child: kept[parent] for child, parent in plan.parents.items() if parent in kept}
    epochs = begun | kept | {trial.trial_id: epoch.epoch for trial, epoch in seen.items()}
    return make_forecast(plan, trials, Costs(past, hardware, pace), capacity, epochs, running or (), shares)
