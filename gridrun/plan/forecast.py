"""The order in which trials will start, and an estimate of how long they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gridrun import resources
from gridrun.plan.costs import PAST_COLUMNS, Cost, Costs
from gridrun.plan.energy import expected_kwh
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
_LAST_DELAY = 1e6
"""Rounds by which trials of hopeless rows are put back: behind all others."""


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
    makespan_range: tuple[float, float] | None
    """Where `makespan_seconds` lies if each guess is as far off as it may be. None without guesses."""
    hours_range: tuple[float, float] | None
    """The same of `hours`."""
    shared_hours: float | None
    """Hours saved because grids share trials, counting those already done."""
    kwh: float | None = None
    """Energy of the trials. None where none on this hardware was measured, or several GPUs are asked for."""

    @property
    def is_relative(self) -> bool:
        """Whether costs only tell long trials from short ones; they are not seconds then."""
        return self.hours is None

    @property
    def rests_on(self) -> dict[str, int]:
        """How many of the estimates are measured, scaled and guessed; empty if they are no times."""
        if self.is_relative:
            return {}
        words = Counter(self.costs[trial.trial_id].rests_on for trial in self.trials)
        return {word: words[word] for word in ("measured", "scaled", "guessed") if words[word]}

    def range_of(self, trial: Trial) -> tuple[float, float] | None:
        """Return the least and the most that may be left of a trial, in seconds; None if it is no guess."""
        factor, left = self.costs[trial.trial_id].factor, self.left[trial.trial_id]
        return None if self.is_relative or factor == 1 else (left / factor, left * factor)


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
        delay += _LAST_DELAY if trial.trial_id in plan.last else 0
        return Job(trial, left[trial.trial_id], plan.rounds.get(trial.trial_id, 0) + delay, num_gpus(trial))

    def hours(trial: Trial, seconds: float) -> float:
        return seconds * capacity.taken(num_gpus(trial)) / 3600

    running_jobs = [job(trial) for trial in running]
    jobs = ordered(map(job, trials), capacity, running_jobs)
    shared = [trial for trial in plan.trials if trial.trial_id in plan.shared]
    saved = [(t, costs.of(t.config, t.config_id).amount * plan.shared[t.trial_id]) for t in shared]
    timed = not costs.is_relative

    def span(power: int) -> tuple[float, float]:
        """Return makespan and hours if guesses are too small (power 1) or too large (power -1)."""

        def off(one: Job[Trial]) -> Job[Trial]:
            return replace(one, seconds=one.seconds * found[one.what.trial_id].factor ** power)

        total = sum(hours(one.what, off(one).seconds) for one in jobs)
        return makespan(map(off, jobs), capacity, [off(one) for one in running_jobs]), total

    guessed = timed and any(found[trial.trial_id].factor > 1 for trial in trials)
    least, most = (span(-1), span(1)) if guessed else (None, None)
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
        makespan_range=(least[0], most[0]) if least and most else None,
        hours_range=(least[1], most[1]) if least and most else None,
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
    costs = Costs(past, hardware, pace)
    forecast = make_forecast(plan, trials, costs, capacity, epochs, running or (), shares)
    if forecast.is_relative or any(trial.config.num_gpus > 1 for trial in trials):
        return forecast
    return replace(forecast, kwh=expected_kwh(trials, forecast.left, past, hardware))
