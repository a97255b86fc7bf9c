"""How long trials take: from the past of their own store, else from what their networks compute.

A trial is estimated by the first of these that the store has, on one kind of hardware:

    same     trials of the very config: the median of what they took
    network  trials of the network at this batch size and precision: by images
    fitted   any trials: a model of the time an image takes, fitted to all of them
    macs     none: multiply-accumulates times images, more for small batches; no more than long from short

Records have the time of the training steps. A trial keeps its place busy for longer: it loads data
and evaluates. How much longer is the median over all trials, so that the import of torch, which the
first trial of each worker waits for, does not count.
"""

from __future__ import annotations

import contextlib
import json
import math
import operator
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from gridrun.resources import Hardware, hardware_of
from gridrun.text import number_of
from gridrun.trial import Trial
from trainer import ConfigError, TrainConfig

Basis = Literal["same", "network", "fitted", "macs"]
"""What an estimate rests on, the best first."""

PAST_COLUMNS = (
    *("trial_id", "config_id", "config_json", "status", "started_at", "ended_at", "resumes"),
    *("train_seconds", "macs", "gpu", "cpu", "device", "threads"),
    "gpu_share",
)
"""Of `trials.parquet`: what is looked at."""
MAX_CONFIGS = 2000
"""Of the past that are read whole, the latest first."""
_RIDGE = 1.0
"""Holds the fit to what is thought without evidence (`_Fit`)."""
_STEP_IMAGES = 32
"""A step takes about as long as so many images more than it has, whatever their number: a guess that
the published study of batch sizes 8 to 4096 bears out on its GPU."""

_speed_options = operator.attrgetter(
    "model", "batch_size", "num_gpus", "sync_bn", "optimizer", "subdivision", "augmentation", "precision"
)


def speed_key(config: TrainConfig) -> tuple[Any, ...]:
    """Return what the time of an image depends on; the rest of a config hardly matters to it."""
    return (*_speed_options(config), *_shape(config))


def _shape(config: TrainConfig) -> tuple[int, int, int]:
    spec = config.dataset.spec
    return spec.channels, spec.image_size, spec.num_classes


def num_images(config: TrainConfig) -> int:
    """Return the images of all epochs of a trial."""
    return config.epochs * config.images_per_epoch


@dataclass(frozen=True, slots=True)
class Cost:
    """An estimate of a trial."""

    amount: float
    """Seconds; with the basis `macs` no unit of time."""
    basis: Basis


@dataclass(frozen=True, slots=True)
class _Speed:
    """What past trials of one speed key say."""

    config: TrainConfig
    seconds_per_image: float
    macs: int


class Costs:
    """Estimates trials by those that a store has.

    Args:
        past: rows of done trials, of PAST_COLUMNS or more; others are ignored.
        hardware: what trials are going to run on. Where none has run on that, what most have run on
            stands for it, GPUs for GPUs if there are any.
        running: trials under way there, with the seconds that all their steps are going to take.
    """

    def __init__(
        self,
        past: Iterable[Mapping[str, Any]],
        hardware: Hardware,
        running: Mapping[Trial, float] | None = None,
    ) -> None:
        found = [(row, hardware_of(row), _trained(row)) for row in past if row["status"] == "done"]
        kinds = Counter(kind for _, kind, seconds in found if seconds)
        self.asked_hardware = hardware
        self.hardware = max(
            kinds,
            key=lambda kind: (kind == hardware, kind.is_gpu == hardware.is_gpu, kinds[kind]),
            default=hardware,
        )
        timed = [(row, seconds) for row, kind, seconds in found if seconds and kind == self.hardware]
        self.num_past = len(timed)
        """Past trials that the estimates rest on."""
        self._overhead = _overhead(timed)
        timed += [(_unended(trial), seconds) for trial, seconds in (running or {}).items()]
        self._same = {
            key: self._overhead * seconds
            for key, seconds in _medians((row["config_id"], seconds) for row, seconds in timed).items()
        }
        self._speeds = _speeds(timed, self._same)
        self._fit = _Fit(list(self._speeds.values())) if self._speeds else None
        self._by_key: dict[tuple[Any, ...], tuple[float, Basis]] = {}

    @property
    def is_relative(self) -> bool:
        """Whether estimates only tell long from short."""
        return self._fit is None

    @property
    def trust(self) -> str:
        """What the estimates rest on, in words."""
        if self.is_relative:
            return "relative only: no past trials in this store"
        trials = f"{number_of(self.num_past, 'trial')} of this store"
        if self.hardware == self.asked_hardware:
            return f"from {trials} on {self.hardware.name}"
        return f"from {trials} on {self.hardware.name}, none on {self.asked_hardware.name}"

    def of(self, config: TrainConfig, config_id: str) -> Cost:
        """Return the estimate of a whole trial."""
        if config_id in self._same:
            return Cost(self._same[config_id], "same")
        key = speed_key(config)
        if key not in self._by_key:
            self._by_key[key] = self._per_image(config, key)
        per_image, basis = self._by_key[key]
        return Cost(per_image * num_images(config), basis)

    def _per_image(self, config: TrainConfig, key: tuple[Any, ...]) -> tuple[float, Basis]:
        if key in self._speeds:
            return self._speeds[key].seconds_per_image, "network"
        macs = self._macs(config)
        if self._fit is None:
            return macs * _step_factor(config) / config.num_gpus, "macs"
        return self._fit.seconds_per_image(config, macs), "fitted"

    def _macs(self, config: TrainConfig) -> int:
        """Return a network's MACs: its own word, that of a record, or else the middle of the records."""
        if (macs := config.model.macs(config.dataset.spec)) is not None:
            return macs
        known = [speed for speed in self._speeds.values() if speed.macs > 0]
        own = (config.model, *_shape(config))
        for speed in known:
            if (speed.config.model, *_shape(speed.config)) == own:
                return speed.macs
        return statistics.median_low([speed.macs for speed in known]) if known else 1


def _trained(row: Mapping[str, Any]) -> float | None:
    """Return the seconds of a trial's training steps, None if its record does not say."""
    seconds = row["train_seconds"]
    return float(seconds) if isinstance(seconds, (int, float)) and 0 < seconds < math.inf else None


def _unended(trial: Trial) -> dict[str, Any]:
    """Return of a trial's record what does not have to wait for its end."""
    config = json.dumps(trial.config.canonical())
    return {"config_id": trial.config_id, "config_json": config, "ended_at": "later", "macs": 0}


def _overhead(timed: Iterable[tuple[Mapping[str, Any], float]]) -> float:
    """Return the time from a trial's first moment to its record over that of its steps: the median."""
    shares = []
    for row, trained in timed:
        if row["started_at"] and not row["resumes"]:
            with contextlib.suppress(TypeError, ValueError):  # times that are none
                took = datetime.fromisoformat(row["ended_at"]) - datetime.fromisoformat(row["started_at"])
                shares.append(max(took.total_seconds() / trained, 1.0))  # a clock may have been put back
    return statistics.median(shares) if shares else 1.0


def _medians(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return {key: statistics.median(values) for key, values in found.items()}


def _speeds(
    timed: Sequence[tuple[Mapping[str, Any], float]], medians: Mapping[str, float]
) -> dict[tuple[Any, ...], _Speed]:
    """Read the latest configs of the past, and what an image took under each speed key."""
    latest = {row["config_id"]: row for row, _ in sorted(timed, key=lambda pair: str(pair[0]["ended_at"]))}
    found: dict[tuple[Any, ...], list[_Speed]] = {}
    for row in list(latest.values())[-MAX_CONFIGS:]:
        try:
            config = TrainConfig.from_dict(json.loads(row["config_json"]))
        except (ConfigError, ValueError, TypeError):  # of code that is no longer there
            continue
        seconds = medians[row["config_id"]] / num_images(config)
        found.setdefault(speed_key(config), []).append(_Speed(config, seconds, row["macs"] or 0))
    return {
        key: replace(speeds[-1], seconds_per_image=statistics.median(s.seconds_per_image for s in speeds))
        for key, speeds in found.items()
    }


def _step_factor(config: TrainConfig) -> float:
    return 1 + _STEP_IMAGES / config.batch_size


class _Fit:
    """log(seconds an image takes), linear in the logs of MACs, step factor and GPUs, and in the precision.

    Least squares, drawn towards time in proportion to MACs and step factor, and inversely to GPUs: one
    trial is enough to scale by, and many of them say how batches and precisions matter here.
    """

    def __init__(self, speeds: Sequence[_Speed]) -> None:
        import numpy as np

        counted = [speed for speed in speeds if _macs_of(speed)] or list(speeds)
        self._precisions = sorted({speed.config.precision for speed in counted})
        x = np.array([self._features(s.config, _macs_of(s) or 1) for s in counted])
        y = np.log([speed.seconds_per_image for speed in counted])
        prior = np.array([1.0, 1.0, -1.0, *(0.0 for _ in self._precisions)])
        self._x_mean, self._y_mean = x.mean(0), y.mean()
        centred = x - self._x_mean
        residual = y - self._y_mean - centred @ prior
        normal = centred.T @ centred + _RIDGE * np.eye(len(prior))
        self._weights = prior + np.linalg.solve(normal, centred.T @ residual)

    def _features(self, config: TrainConfig, macs: int) -> list[float]:
        which = [float(config.precision == precision) for precision in self._precisions]
        return [math.log(macs), math.log(_step_factor(config)), math.log(config.num_gpus), *which]

    def seconds_per_image(self, config: TrainConfig, macs: int) -> float:
        """Return the estimate."""
        x = self._features(config, macs)
        return math.exp(float((x - self._x_mean) @ self._weights + self._y_mean))


def _macs_of(speed: _Speed) -> int:
    return speed.config.model.macs(speed.config.dataset.spec) or speed.macs
