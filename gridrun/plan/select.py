"""Parts of a plan: the trials that a user names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from gridrun.errors import LaunchError
from gridrun.plan import Plan
from gridrun.trial import Trial


def select_trials(plan: Plan, only: Sequence[str]) -> tuple[Trial, ...]:
    """Return the trials that the plan starts and `only` names; all of them if `only` is empty.

    Args:
        only: trial ids, or beginnings of trial ids.

    Raises:
        LaunchError: no trial of the plan has such an id.
    """
    if not only:
        return plan.to_start
    full_ids = {trial.trial_id for trial in plan.trials}.intersection(only)  # `retry` names thousands
    prefixes = tuple(text for text in only if text not in full_ids)
    for prefix in prefixes:
        if not prefix or not any(trial.trial_id.startswith(prefix) for trial in plan.trials):
            raise LaunchError(
                f"no trial of these grids has an id that begins with {prefix!r}; `gridrun plan` lists them"
            )
    return tuple(t for t in plan.to_start if t.trial_id in full_ids or t.trial_id.startswith(prefixes))


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
