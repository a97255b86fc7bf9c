"""How long single trials take, estimated from the done trials of a store.

The best basis that the store offers on one kind of hardware is used:

    same     done trials of the same config: their median time
    network  done trials of the same network, batch size and precision: their time per image
    fitted   any done trials: a linear model of the time per image, fitted to all of them
    macs     no done trials: multiply-accumulates times images, more for small batches. This is no time;
             it only tells long trials from short ones.

`same` is measured and `network` scaled. `fitted` is a guess, and so is everything on a CPU or GPU of another
name; a guess has a range that holds nine times in ten. GPUs say nothing about CPUs, nor CPUs about GPUs.

Records have the time of the training steps. A trial takes longer, because it also loads data and
evaluates. The median ratio over all trials says how much longer. As a median it leaves out the import of
torch, which only the first trial of each worker waits for.
"""

from __future__ import annotations

import json
import math
import operator
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from gridrun.resources import ANOTHER_GPU, HARDWARE_KEYS, Hardware, hardware_of
from gridrun.text import number_of, seconds_of
from gridrun.trial import Trial, config_of
from trainer import TrainConfig

Basis = Literal["same", "network", "fitted", "macs"]

PAST_COLUMNS = (
    *("trial_id", "config_id", "config_json", "status", "started_at", "ended_at", "resumes"),
    *("train_seconds", "energy_kwh", "macs", *HARDWARE_KEYS),
)
"""Columns of `trials.parquet` that estimates need."""
MAX_CONFIGS = 2000  # most configs to learn from; the latest are taken
_RIDGE = 1.0  # how strongly the fit holds to its prior (`_fit`)
_STEP_IMAGES = 32
"""Fixed cost of a step, in images: a step of 128 images takes as long as 160 would without it. A guess
that agrees with the published study of batch sizes 8 to 4096 on its GPU."""

_GUESS_FACTOR = 3.0
"""How far a fitted estimate may be off. For calibration, see tests/test_plan_costs.py."""
_GUESS_POWER = 0.25
"""It may be off further by this power of how much larger or smaller the network is than any measured."""
_OTHER_FACTOR = 3.0
"""How far an estimate for a CPU or a GPU of another name may be off, in addition."""

_speed_options = operator.attrgetter(
    "model", "batch_size", "num_gpus", "sync_bn", "optimizer", "subdivision", "precision"
)


def speed_key(config: TrainConfig) -> tuple[Any, ...]:
    """Return the options that the time per image depends on; the others hardly matter."""
    augmentation = tuple(options.footprint for options in config.augmentation)
    return (*_speed_options(config), augmentation, *_shape(config))


def _shape(config: TrainConfig) -> tuple[int, int, int]:
    spec = config.dataset.spec
    return spec.channels, spec.image_size, spec.num_classes


class Cost(NamedTuple):
    """The estimate of a trial."""

    amount: float
    """Seconds; with the basis `macs` not a time, only comparable."""
    basis: Basis
    factor: float = 1.0
    """A guess has one above 1: the trial takes between amount / factor and amount x factor."""

    @property
    def rests_on(self) -> str:
        """What the estimate rests on, in a word."""
        return "guessed" if self.factor > 1 else {"same": "measured"}.get(self.basis, "scaled")


class _Speed(NamedTuple):
    """How fast done trials of one `speed_key` were."""

    config: TrainConfig
    seconds_per_image: float
    macs: int
    """As the options say, else a record; 0 if neither does."""


class Costs:
    """Estimates trials from those that a store has.

    Args:
        past: rows of a store with PAST_COLUMNS or more; only done trials count.
        hardware: what the trials will run on. If no done trial ran on it, the hardware of most done
            trials is used instead, a GPU in place of a GPU, a CPU in place of a CPU.
        running: seconds that all steps of each running trial will take.
    """

    def __init__(
        self,
        past: Iterable[Mapping[str, Any]],
        hardware: Hardware,
        running: Mapping[Trial, float] | None = None,
    ) -> None:
        found = [
            (row, hardware_of(*map(row.get, HARDWARE_KEYS)), _train_seconds(row))
            for row in past
            if row["status"] == "done"
        ]
        kinds = Counter(kind for _, kind, seconds in found if seconds)
        self.wanted_hardware = hardware
        self._others = kinds.keys() - {kind for kind in kinds if kind.is_gpu == hardware.is_gpu}
        self.hardware = max(
            kinds.keys() - self._others, key=lambda kind: (kind == hardware, kinds[kind]), default=hardware
        )
        known = hardware == self.hardware or hardware.name == ANOTHER_GPU
        self._factor = 1.0 if known else _OTHER_FACTOR
        timed = [(row, seconds) for row, kind, seconds in found if seconds and kind == self.hardware]
        self.num_past = len(timed)
        """Number of done trials that the estimates are based on."""
        self._overhead = _overhead(timed)
        for trial, seconds in (running or {}).items():  # as rows that are later than all others
            text = json.dumps(trial.config.canonical())
            row = {"config_id": trial.config_id, "config_json": text, "ended_at": "later", "macs": 0}
            timed.append((row, seconds))
        self._same = {
            key: self._overhead * seconds
            for key, seconds in _medians((row["config_id"], seconds) for row, seconds in timed).items()
        }
        self._speeds = _speeds(timed, self._same)
        self._fit = _fit(self._speeds.values()) if self._speeds else None
        self._by_key: dict[tuple[Any, ...], Cost] = {}

    @property
    def is_relative(self) -> bool:
        """Whether estimates only tell long trials from short ones."""
        return self._fit is None

    @property
    def trust(self) -> str:
        """What the estimates are based on, in words."""
        if self.is_relative and self._others:
            return f"relative only: no past trials on a {'GPU' if self.wanted_hardware.is_gpu else 'CPU'}"
        if self.is_relative:
            return "relative only: no past trials in this store"
        trials = f"{number_of(self.num_past, 'trial')} of this store"
        none = "" if self.hardware == self.wanted_hardware else f", none on {self.wanted_hardware.name}"
        return f"from {trials} on {self.hardware.name}{none}"

    def of(self, config: TrainConfig, config_id: str) -> Cost:
        """Return the estimate of a whole trial."""
        if config_id in self._same:
            return Cost(self._same[config_id], "same", self._factor)
        key = speed_key(config)
        if key not in self._by_key:
            self._by_key[key] = self._per_image(config, key)
        per_image = self._by_key[key]
        return per_image._replace(amount=per_image.amount * config.num_images)

    def _per_image(self, config: TrainConfig, key: tuple[Any, ...]) -> Cost:
        if key in self._speeds:
            return Cost(self._speeds[key].seconds_per_image, "network", self._factor)
        macs = self._macs(config)
        if self._fit is None:
            return Cost(macs * _step_factor(config) / config.num_gpus, "macs")
        known = [speed.macs for speed in self._speeds.values() if speed.macs]
        apart = min((abs(math.log(macs / other)) for other in known), default=0.0)
        factor = _GUESS_FACTOR * math.exp(_GUESS_POWER * apart) * self._factor
        return Cost(self._fit(config, macs), "fitted", factor)

    def _macs(self, config: TrainConfig) -> int:
        """Return a network's MACs: as its options or a record say, else the median of all records."""
        if macs := config.model.macs(config.dataset.spec):
            return macs
        known = [speed for speed in self._speeds.values() if speed.macs]
        own = (config.model, *_shape(config))
        for speed in known:
            if (speed.config.model, *_shape(speed.config)) == own:
                return speed.macs
        return statistics.median_low([speed.macs for speed in known]) if known else 1


def _train_seconds(row: Mapping[str, Any]) -> float | None:
    """Return the seconds of a trial's training steps, None if its record has no valid number."""
    seconds = row["train_seconds"]
    return float(seconds) if isinstance(seconds, (int, float)) and 0 < seconds < math.inf else None


def _overhead(timed: Iterable[tuple[Mapping[str, Any], float]]) -> float:
    """Return the median ratio of a trial's whole time to the time of its training steps."""
    shares = []
    for row, trained in timed:
        start, end = seconds_of(row["started_at"]), seconds_of(row["ended_at"])
        if start is not None and end is not None and not row["resumes"]:
            shares.append(max((end - start) / trained, 1.0))  # below 1 if the clock was put back
    return statistics.median(shares) if shares else 1.0


def _medians(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return {key: statistics.median(values) for key, values in found.items()}


def _speeds(
    timed: Sequence[tuple[Mapping[str, Any], float]], medians: Mapping[str, float]
) -> dict[tuple[Any, ...], _Speed]:
    """Return the speed of each speed key, from the latest configs."""
    latest = {row["config_id"]: row for row, _ in sorted(timed, key=lambda pair: str(pair[0]["ended_at"]))}
    found: dict[tuple[Any, ...], list[_Speed]] = {}
    for row in list(latest.values())[-MAX_CONFIGS:]:
        try:
            config = config_of(row["config_json"])
        except (ValueError, TypeError):  # this version no longer knows it
            continue
        seconds = medians[row["config_id"]] / config.num_images
        macs = config.model.macs(config.dataset.spec) or row["macs"] or 0
        found.setdefault(speed_key(config), []).append(_Speed(config, seconds, macs))
    return {
        key: speeds[-1]._replace(seconds_per_image=statistics.median(s.seconds_per_image for s in speeds))
        for key, speeds in found.items()
    }


def _step_factor(config: TrainConfig) -> float:
    return 1 + _STEP_IMAGES / config.batch_size


def _fit(speeds: Collection[_Speed]) -> Callable[[TrainConfig, int], float]:
    """Return a function that estimates the seconds per image of a config from its MACs.

    It is a linear model of log(seconds) in log(MACs), log(step factor), log(GPUs) and the precision. Ridge
    regression holds it to a prior: time grows with MACs and step factor, and shrinks with GPUs, all in
    proportion. So one trial is enough to scale by, and many teach what batch size and precision cost.
    """
    import numpy as np

    counted = [speed for speed in speeds if speed.macs] or speeds
    precisions = sorted({speed.config.precision for speed in counted})

    def features(config: TrainConfig, macs: int) -> list[float]:
        is_of = (float(config.precision == precision) for precision in precisions)
        return [math.log(macs), math.log(_step_factor(config)), math.log(config.num_gpus), *is_of]

    x = np.array([features(speed.config, speed.macs or 1) for speed in counted])
    y = np.log([speed.seconds_per_image for speed in counted])
    prior = np.array([1.0, 1.0, -1.0, *(0.0 for _ in precisions)])
    x_mean, y_mean = x.mean(0), y.mean()
    centred = x - x_mean
    residual = y - y_mean - centred @ prior
    normal = centred.T @ centred + _RIDGE * np.eye(len(prior))
    weights = prior + np.linalg.solve(normal, centred.T @ residual)
    return lambda config, macs: math.exp(float((features(config, macs) - x_mean) @ weights + y_mean))
