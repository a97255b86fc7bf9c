"""How many trials share a GPU, or how many threads each has on CPUs: what measures the highest throughput."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gridrun.resources import CpusPerTrial, GpusPerTrial
from gridrun.trial import config_of
from trainer import TrainConfig
from trainer.schema import defaults

USABLE = 0.92  # part of a GPU's memory to fill; what a trial takes varies a little from run to run
WORTH = 1.1  # throughput that twice as many trials must reach, relative to half as many


@dataclass(frozen=True, slots=True)
class Load:
    """What trials that run side by side take of a GPU, or of a machine's CPUs, measured over some steps."""

    memory_bytes: int
    """Peak memory of the trial that took most."""
    total_bytes: int
    images_per_second: float
    """Of all these trials together."""


def trials_per_gpu(measure: Callable[[int], Load | None], most: int) -> int:
    """Return how many trials of one config to put on a GPU: 1, 2, 4 ..., but not more than `most`.

    `measure` runs a number of trials on one GPU for a moment. It returns None if they run out of memory.
    """
    if most < 2:
        return 1
    alone = measure(1)
    if alone is None:
        return 1  # it may fit later, when others have freed memory; if not, the trial fails and says so
    room = int(USABLE * alone.total_bytes) // max(alone.memory_bytes, 1)
    best, found = alone.images_per_second, 1
    while 2 * found <= min(room, most):
        load = measure(2 * found)
        if load is None or load.images_per_second < WORTH * best:
            break
        best, found = load.images_per_second, 2 * found
    return found


def threads_per_trial(measure: Callable[[int, int], Load | None], cpus: int, trials: int) -> int:
    """Return how many threads each trial of one config gets on a machine: those of the highest throughput.

    `measure` runs a number of trials with so many threads each for a moment. It returns None if they fail.
    It is asked for as many trials as there are CPUs, but not more than `trials`, then for half as many ...
    """
    side_by_side = max(min(cpus, trials), 1)
    best, found = 0.0, cpus // side_by_side
    while side_by_side and cpus > 1:
        threads = cpus // side_by_side
        load = measure(side_by_side, threads)
        if load and side_by_side * load.memory_bytes <= USABLE * load.total_bytes:
            if load.images_per_second <= best:
                break
            best, found = load.images_per_second, threads
        side_by_side //= 2
    return max(found, 1)


@dataclass(frozen=True, order=True, slots=True)
class Share:
    """GPUs and CPUs that one trial takes."""

    gpu: float
    cpu: int
    threads: int = 1
    """Of each of its processes."""

    @property
    def resources(self) -> dict[str, float]:
        """What Ray is asked for."""
        return {"gpu": self.gpu, "cpu": self.cpu}


class Packer:
    """Decides what each trial takes, measuring each footprint once.

    Args:
        gpus_per_trial: GPUs for a trial with `num_gpus` 1; None: a whole one. Other trials take `num_gpus`.
        cpus_per_trial: CPUs for each of a trial's `num_gpus`. auto: on CPUs measured; beside GPUs, which do
            the work, the trials share all CPUs equally.
    """

    def __init__(self, gpus_per_trial: GpusPerTrial | None, cpus_per_trial: CpusPerTrial) -> None:
        self._gpus_per_trial, self._cpus_per_trial = gpus_per_trial, cpus_per_trial
        self.fitted: dict[TrainConfig, int] = {}
        """Trials per GPU, by footprint."""
        self.threads: dict[TrainConfig, int] = {}
        """Threads of a trial on CPUs, by footprint."""

    def share(
        self,
        config: TrainConfig,
        cpus: float,
        gpus: float,
        measure: Callable[[int], Load | None],
        given: float | None = None,
        choose_threads: Callable[[], int] = lambda: 1,
    ) -> Share:
        """Return what a trial takes on a machine or cluster with `cpus` and `gpus`.

        `measure` is that of `trials_per_gpu`. `given` is the part of a GPU that the trial needs, if its last
        attempt ran out of memory. `choose_threads` measures the threads of a trial on CPUs
        (`threads_per_trial`).
        """
        number = config.num_gpus
        gpu = float(number) if gpus else 0.0
        if number == 1 and self._gpus_per_trial is not None:
            if self._gpus_per_trial != "auto":
                gpu = max(self._gpus_per_trial, given or 0.0)
            elif gpus:
                alike = footprint(config)
                if not given and alike not in self.fitted:
                    least = 1 if self._cpus_per_trial == "auto" else self._cpus_per_trial
                    self.fitted[alike] = trials_per_gpu(measure, int(cpus / gpus) // least)
                gpu = given or 1 / self.fitted[alike]
        threads = self._threads(config, cpus * gpu / gpus / number if gpus else None, choose_threads)
        return Share(gpu, threads * number, threads)

    def _threads(self, config: TrainConfig, equal: float | None, choose: Callable[[], int]) -> int:
        """Return the threads of each of a trial's processes; `equal` CPUs are its part beside a GPU."""
        if self._cpus_per_trial != "auto":
            return self._cpus_per_trial
        if equal:
            return max(int(equal + 1e-9), 1)
        alike = footprint(config)
        if alike not in self.threads:
            self.threads[alike] = choose()
        return self.threads[alike]


_FREE = (
    *("epochs", "stop_after", "lr", "schedule", "warmup", "weight_decay", "no_weight_decay_on_bn"),
    "weight_decay_on",
    *("label_smoothing", "init", "init_from", "split_seed", "eval_every"),
    *("tta", "tta_least_confident"),
)
"""Options that change neither the memory nor the time of a step."""


@functools.lru_cache(maxsize=2**12)
def footprint(config: TrainConfig) -> TrainConfig:
    """Return one config for all configs that take the same share of a GPU."""
    usual = {name: defaults(TrainConfig)[name] for name in _FREE if name in defaults(TrainConfig)}
    augmentation = tuple(options.footprint for options in config.augmentation)
    return dataclasses.replace(config, **(usual | {"epochs": 1, "augmentation": augmentation}))


def past_shares(past: Iterable[Mapping[str, Any]], gpus: Collection[str]) -> dict[TrainConfig, float]:
    """Return the part of a GPU that done trials had: of each footprint, the latest.

    Only trials on one of `gpus`, the names of this machine's GPUs, count; all do if it has none.
    """
    shared = {
        row["config_id"]: row
        for row in sorted(past, key=lambda row: str(row["ended_at"]))
        if row["status"] == "done"
        and isinstance(share := row.get("gpu_share"), float)  # records of early versions have none
        and 0 < share <= 1
        and (not gpus or row["gpu"] in gpus)
    }
    found = {}
    for row in shared.values():
        with contextlib.suppress(ValueError, TypeError):  # this version no longer knows the config
            found[footprint(config_of(row["config_json"]))] = row["gpu_share"]
    return found
