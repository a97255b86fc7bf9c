"""Trials read back from a store, to run them again without their grids."""

from __future__ import annotations

from collections.abc import Collection

from gridrun.store import Store
from gridrun.trial import Trial, config_of
from trainer import ConfigError


def stored_trials(store: Store, statuses: Collection[str]) -> tuple[list[Trial], dict[str, str]]:
    """Return the stored trials that have one of `statuses`, and why others of these cannot be run again.

    The reasons are by trial id. A trial is left out if this version cannot read its config, or trains it
    differently and so gives it another id.
    """
    trials: list[Trial] = []
    left_out: dict[str, str] = {}
    for trial_id, row in store.rows().items():
        if row["status"] not in statuses:
            continue
        try:
            trial = Trial(config_of(row["config_json"]), row["seed"])
        except ConfigError as error:
            left_out[trial_id] = str(error)
            continue
        if trial.trial_id == trial_id:
            trials.append(trial)
        else:
            left_out[trial_id] = "this version trains it differently"
    return trials, left_out
