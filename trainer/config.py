"""Everything that can change a result, and nothing else. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trainer.augmentations import AugmentationOptions
from trainer.checks import check_config
from trainer.data import splits
from trainer.datasets import DatasetOptions, datasets
from trainer.models import ModelOptions
from trainer.optimizers import OptimizerOptions, optimizers
from trainer.schedules import ScheduleOptions, schedules
from trainer.schema import canonical, flatten, read
from trainer.warmups import WarmupOptions

Precision = Literal["fp32", "tf32", "mixed_bf16", "mixed_fp16", "pure_fp16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run but for its seed; where and how fast it runs is `trainer.Runtime`."""

    model: ModelOptions
    epochs: int
    dataset: DatasetOptions = field(default_factory=lambda: datasets.get("digits")())
    train_size: int | None = None
    """Train on so many of the training images (`trainer.data.splits` says which); None takes all."""
    val_ratio: float = 0.0
    """Share of the training images held out. All test metrics are then measured on them: the test
    set is left alone."""
    split_seed: int = 0
    """Of the permutation that both are parts of; no part of a trial's own seed."""
    batch_size: int = 128
    """Images a step, on each GPU. The last incomplete batch of an epoch is dropped."""
    num_gpus: int = 1
    """GPUs that train together, each on batch_size images a step, gradients averaged. On a machine
    without GPUs, processes on CPU."""
    sync_bn: bool = False
    """Take the statistics of batch normalisation over the batches of all GPUs, not over each one's."""
    lr: float = 0.1
    """Peak learning rate."""
    schedule: ScheduleOptions = field(default_factory=lambda: schedules.get("cosine")())
    """How the rate falls; set anew at every step."""
    warmup: WarmupOptions | None = None
    """How the rate first rises; its epochs are taken out of the schedule's."""
    optimizer: OptimizerOptions = field(default_factory=lambda: optimizers.get("sgd")())
    weight_decay: float = 1e-4
    no_weight_decay_on_bn: bool = False
    """Decay the weights of convolutions alone: nor do biases and linear layers decay."""
    gradient_clip: float | None = None
    """Largest L2 norm of all gradients together; longer ones are scaled down to it."""
    subdivision: int = 1
    """Parts that a batch goes through the network in, one after the other, gradients averaged:
    batch normalisation sees ghost batches of batch_size / subdivision (arXiv:1705.08741)."""
    ema_decay: float | None = None
    """Of an average of the weights, taken at every step and evaluated in their place."""
    augmentation: tuple[AugmentationOptions, ...] = ()
    """Of training images: a mapping from name to options; the order of work is fixed."""
    label_smoothing: float = 0.0
    """Share of each target spread evenly over all classes (arXiv:1512.00567)."""
    precision: Precision = "fp32"
    """fp32 is IEEE; tf32 rounds products on a GPU; mixed is autocast, for fp16 with a scaler;
    pure_fp16 keeps the weights in fp16 too and scales nothing, so that small steps are lost."""
    init: Literal["fan_out", "fan_in"] = "fan_out"
    """Mode of the Kaiming normal initialisation (arXiv:1502.01852)."""
    eval_every: int = 1
    """Test after every so many epochs, and always after the last one. Where a test takes as long as
    an epoch does, as on a reduced training set, a larger number halves the time."""

    def __post_init__(self) -> None:
        check_config(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Read a config from plain nested data.

        Raises:
            ConfigError: naming the option at fault and the nearest right name.
        """
        return read(cls, values)

    @classmethod
    def assembler(cls, names: Iterable[str]) -> Callable[[Iterable[Any]], TrainConfig]:
        """Return what makes configs of options that have been checked in other configs: no check runs again.

        For the rows of large grids. Options that some check reads together (`checks.read_together`)
        must come from one config.

        Args:
            names: of all options, in the order in which their values are to be given.
        """
        setters = [getattr(cls, name).__set__ for name in names]  # object.__setattr__ is far slower

        def assemble(values: Iterable[Any]) -> TrainConfig:
            config = object.__new__(cls)
            for set_option, value in zip(setters, values, strict=True):
                set_option(config, value)
            return config

        return assemble

    def canonical(self) -> dict[str, Any]:
        """Return the shortest nested mapping that means this config: defaults left out."""
        return canonical(self)

    def flat(self) -> dict[str, Any]:
        """Return every option, defaults too, by dotted name: one row of columns."""
        return flatten(self)

    @property
    def num_train(self) -> int:
        """Images to train on."""
        return splits.num_train(self.dataset.spec.num_train, self.train_size, self.val_ratio)

    @property
    def global_batch_size(self) -> int:
        """Images a step, on all GPUs together."""
        return self.batch_size * self.num_gpus

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps an epoch."""
        return self.num_train // self.global_batch_size

    @property
    def images_per_epoch(self) -> int:
        """Images trained on in an epoch: the last incomplete batch is dropped."""
        return self.steps_per_epoch * self.global_batch_size

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        epoch = step / self.steps_per_epoch
        start = self.warmup.epochs if self.warmup else 0.0
        if self.warmup and epoch < start:
            return self.lr * self.warmup.factor(epoch)
        return self.lr * self.schedule.factor(epoch, start, self.epochs)
