"""Everything that can change a result, and nothing else. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trainer.augmentations import AugmentationOptions
from trainer.datasets import DatasetOptions, datasets
from trainer.models import ModelOptions
from trainer.optimizers import OptimizerOptions, optimizers
from trainer.schedules import ScheduleOptions, schedules
from trainer.schema import ConfigError, canonical, check, flatten, read
from trainer.warmups import WarmupOptions

Precision = Literal["fp32", "tf32", "mixed_bf16", "mixed_fp16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run but for its seed; where and how fast it runs is `trainer.Runtime`."""

    model: ModelOptions
    epochs: int
    dataset: DatasetOptions = field(default_factory=lambda: datasets.get("digits")())
    batch_size: int = 128
    """Images a step. The last incomplete batch of an epoch is dropped."""
    lr: float = 0.1
    """Peak learning rate."""
    schedule: ScheduleOptions = field(default_factory=lambda: schedules.get("cosine")())
    """How the rate falls; set anew at every step."""
    warmup: WarmupOptions | None = None
    """How the rate first rises; its epochs are taken out of the schedule's."""
    optimizer: OptimizerOptions = field(default_factory=lambda: optimizers.get("sgd")())
    weight_decay: float = 1e-4
    augmentation: tuple[AugmentationOptions, ...] = ()
    """Of training images: a mapping from name to options; the order of work is fixed."""
    label_smoothing: float = 0.0
    """Share of each target spread evenly over all classes (arXiv:1512.00567)."""
    precision: Precision = "fp32"
    """fp32 is IEEE; tf32 rounds products on a GPU; mixed is autocast, for fp16 with a scaler."""
    init: Literal["fan_out", "fan_in"] = "fan_out"
    """Mode of the Kaiming normal initialisation (arXiv:1502.01852)."""

    def __post_init__(self) -> None:
        check(self.epochs > 0, "epochs", f"must be > 0, got {self.epochs}")
        check(self.lr > 0, "lr", f"must be > 0, got {self.lr}")
        check(self.weight_decay >= 0, "weight_decay", f"must be >= 0, got {self.weight_decay}")
        check(
            0 <= self.label_smoothing < 1, "label_smoothing", f"must be in 0..1, got {self.label_smoothing}"
        )
        check(self.batch_size > 0, "batch_size", f"must be > 0, got {self.batch_size}")
        spec = self.dataset.spec
        check(
            self.batch_size <= spec.num_train,
            "batch_size",
            f"{self.batch_size} is larger than the training set of {self.dataset.name} "
            f"({spec.num_train} images)",
        )
        if self.warmup:
            check(
                self.warmup.epochs < self.epochs,
                "warmup.epochs",
                f"must be below epochs ({self.epochs}), got {self.warmup.epochs:g}",
            )
        _under("model", self.model.check, spec)
        _under("schedule", self.schedule.check, self.epochs)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Read a config from plain nested data.

        Raises:
            ConfigError: naming the option at fault and the nearest right name.
        """
        return read(cls, values)

    def canonical(self) -> dict[str, Any]:
        """Return the shortest nested mapping that means this config: defaults left out."""
        return canonical(self)

    def flat(self) -> dict[str, Any]:
        """Return every option, defaults too, by dotted name: one row of columns."""
        return flatten(self)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps an epoch."""
        return self.dataset.spec.num_train // self.batch_size

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        epoch = step / self.steps_per_epoch
        start = self.warmup.epochs if self.warmup else 0.0
        if self.warmup and epoch < start:
            return self.lr * self.warmup.factor(epoch)
        return self.lr * self.schedule.factor(epoch, start, self.epochs)


def _under(key: str, check_options: Any, *facts: Any) -> None:
    """Run the options' own check; name an error after the field that holds them."""
    try:
        check_options(*facts)
    except ConfigError as error:
        raise ConfigError(f"{key}.{error.key}".rstrip("."), error.problem) from None
