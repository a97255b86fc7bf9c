"""How much energy trials will take, where past ones on the same hardware were measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gridrun.resources import HARDWARE_KEYS, Hardware, hardware_of
from gridrun.text import seconds_of
from gridrun.trial import Trial


def expected_kwh(
    trials: Sequence[Trial],
    left: Mapping[str, float],
    past: Iterable[Mapping[str, Any]],
    hardware: Hardware,
) -> float | None:
    """Return the energy that trials will take; None if nothing on this hardware was measured.

    Trials of a config draw the median power of its past trials; others that of all measured ones.

    Args:
        left: seconds that are left of each trial, by trial id.
        past: rows of a store with PAST_COLUMNS.
        hardware: what the trials will run on.
    """
    powers: dict[str, list[float]] = {}
    for row in past:
        is_like = row["status"] == "done" and hardware_of(*map(row.get, HARDWARE_KEYS)) == hardware
        if is_like and (power := _kw(row)):
            powers.setdefault(row["config_id"], []).append(power)
    if not powers:
        return None
    usual = statistics.median(power for some in powers.values() for power in some)
    medians = {config: statistics.median(some) for config, some in powers.items()}
    seconds = ((left[trial.trial_id], medians.get(trial.config_id, usual)) for trial in trials)
    return sum(took * power for took, power in seconds) / 3600


def _kw(row: Mapping[str, Any]) -> float | None:
    """Return the mean power of a trial in kW, None if it was not measured, or not from start to end."""
    kwh = row.get("energy_kwh")
    if not isinstance(kwh, (int, float)) or kwh <= 0 or row["resumes"]:
        return None
    start, end = seconds_of(row["started_at"]), seconds_of(row["ended_at"])
    return kwh / ((end - start) / 3600) if start is not None and end is not None and end > start else None
