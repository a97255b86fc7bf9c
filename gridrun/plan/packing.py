"""What part of a GPU a trial gets: as many share one as its memory holds and its throughput gains by."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gridrun.resources import GpusPerTrial
from trainer import ConfigError, TrainConfig
from trainer.schema import defaults

USABLE = 0.92
"""Part of a GPU's memory to plan with: what a trial takes varies a little from run to run."""
WORTH = 1.1
"""Gain in throughput below which twice as many trials only make each other slower."""


@dataclass(frozen=True, slots=True)
class Load:
    """What trials beside each other on one GPU took, as measured over some steps."""

    memory_bytes: int
    """Of the one that took most, at its peak."""
    total_bytes: int
    """The GPU's whole memory."""
    images_per_second: float
    """Of all of them together."""


def trials_per_gpu(measure: Callable[[int], Load | None], most: int) -> int:
    """Return how many trials of one config to put on a GPU: 1, 2, 4 ...

    Args:
        measure: runs so many for a moment on one GPU; None if they ran out of memory.
        most: for which there are CPUs.
    """
    if most < 2:
        return 1
    alone = measure(1)
    if alone is None:
        return 1  # it may still fit without what else holds memory now; if not, that is said of the trial
    room = int(USABLE * alone.total_bytes) // max(alone.memory_bytes, 1)
    best, found = alone.images_per_second, 1
    while 2 * found <= min(room, most):
        load = measure(2 * found)
        if load is None or load.images_per_second < WORTH * best:
            break
        best, found = load.images_per_second, 2 * found
    return found


@dataclass(frozen=True, order=True, slots=True)
class Share:
    """What one trial takes of a machine."""

    gpu: float
    cpu: int


class Packer:
    """Decides on the share of each trial, measuring each footprint once.

    Args:
        gpus_per_trial: of a trial on one GPU; None: a whole one. One with `num_gpus` above 1 takes so many.
        cpus_per_trial: times `num_gpus`.
    """

    def __init__(self, gpus_per_trial: GpusPerTrial | None, cpus_per_trial: int) -> None:
        self._gpus_per_trial, self._cpus_per_trial = gpus_per_trial, cpus_per_trial
        self.fitted: dict[TrainConfig, int] = {}
        """Trials a GPU, by footprint."""

    def share(
        self,
        config: TrainConfig,
        cpus: float,
        gpus: float,
        measure: Callable[[int], Load | None],
        given: float | None = None,
    ) -> Share:
        """Return what a trial takes.

        Args:
            config: of the trial.
            cpus: that there are.
            gpus: that there are; without any, trials run on CPUs.
            measure: runs so many trials of the config for a moment (`trials_per_gpu`).
            given: of a GPU, where the trial's last attempt has shown how much it needs.
        """
        number = config.num_gpus
        gpu = float(number) if gpus else 0.0
        if number == 1 and self._gpus_per_trial is not None:
            if self._gpus_per_trial != "auto":
                gpu = max(self._gpus_per_trial, given or 0.0)
            elif gpus:
                gpu = given or 1 / self._fit(config, cpus / gpus, measure)
        return Share(gpu, self._cpus_per_trial * number)

    def _fit(self, config: TrainConfig, cpus_per_gpu: float, measure: Callable[[int], Load | None]) -> int:
        alike = footprint(config)
        if alike not in self.fitted:
            self.fitted[alike] = trials_per_gpu(measure, max(1, int(cpus_per_gpu) // self._cpus_per_trial))
        return self.fitted[alike]


_FREE = (
    *("epochs", "lr", "schedule", "warmup", "weight_decay", "no_weight_decay_on_bn"),
    *("label_smoothing", "init", "split_seed", "eval_every"),
)
"""Options that change neither what a step takes of a GPU nor how long it does."""


def footprint(config: TrainConfig) -> TrainConfig:
    """Return the config that stands for all which take as much of a GPU as this one."""
    usual = {name: defaults(TrainConfig)[name] for name in _FREE if name in defaults(TrainConfig)}
    return dataclasses.replace(config, **(usual | {"epochs": 1}))


def past_shares(past: Iterable[Mapping[str, Any]], gpus: Collection[str]) -> dict[TrainConfig, float]:
    """Return what part of a GPU trials had when they were done, the latest of each footprint.

    Args:
        past: rows of a store, of `costs.PAST_COLUMNS` or more.
        gpus: names of those at hand, whose trials alone count; all do if there is none.
    """
    shared = {
        row["config_id"]: row
        for row in sorted(past, key=lambda row: str(row["ended_at"]))
        if row["status"] == "done"
        and isinstance(row["gpu_share"], float)
        and 0 < row["gpu_share"] <= 1
        and (not gpus or row["gpu"] in gpus)
    }
    found = {}
    for row in shared.values():
        with contextlib.suppress(ConfigError, ValueError, TypeError):  # of code that is no longer there
            found[footprint(TrainConfig.from_dict(json.loads(row["config_json"])))] = row["gpu_share"]
    return found
