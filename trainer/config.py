"""The config of a training run: everything that can change its result, and nothing else. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from trainer.augmentations import AugmentationOptions, check_all
from trainer.averages import AverageOptions
from trainer.averages.ema import EMA
from trainer.data import splits
from trainer.datasets import DatasetOptions, datasets
from trainer.initial_weights import InitialWeightsOptions
from trainer.models import ModelOptions, check_size
from trainer.optimizers import OptimizerOptions, optimizers
from trainer.parameter_groups import ParameterGroupOptions
from trainer.schedules import ScheduleOptions, schedules
from trainer.schema import ConfigError, canonical, check, flatten, read
from trainer.selections import SelectionOptions
from trainer.warmups import WarmupOptions

Precision = Literal["fp32", "tf32", "mixed_bf16", "mixed_fp16", "pure_fp16"]
DecayedKind = Literal["conv", "linear", "bn", "other"]
NEEDS_FILES = "needs images that are streamed: imagenet, or image_folder with stream: true"
MAX_FP16 = 65504
"""The largest fp16 number."""
MIN_FP16 = 2.0**-24
"""The smallest positive fp16 number; half of it and less is rounded to 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run without its seed. Where and how fast it runs is in `trainer.Runtime`."""

    model: ModelOptions
    """The network."""
    epochs: float
    """Passes over the training images. A fraction, as in 9.9, ends in an epoch, at the next whole step."""
    stop_after: int | None = None
    """End after so many epochs, as if the run were interrupted there: all that depends on the length of the
    run, such as the learning rate, is that of `epochs`. None: train all of them."""
    dataset: DatasetOptions = field(default_factory=lambda: datasets.get("digits")())
    """The images to train on and to test on."""
    train_size: int | None = None
    """Number of training images to use (`trainer.data.splits` chooses them); None: all."""
    val_ratio: float = 0.0
    """Share of the training images to hold out. If it is not 0, all test metrics are measured on these
    images and the test set is not used."""
    val_size: int | None = None
    """Number of images to hold out, instead of a share."""
    split_seed: int = 0
    """Seed of the permutation that both are taken from; independent of the trial's seed."""
    batch_size: int = 128
    """Images per step on each GPU. An incomplete last batch of an epoch is dropped."""
    num_gpus: int = 1
    """GPUs that train together, each on batch_size images per step; their gradients are averaged. On a
    machine without GPUs: processes on CPU."""
    sync_bn: bool = False
    """Compute batch normalisation statistics over the batches of all GPUs, not on each GPU alone."""
    lr: float = 0.1
    """Peak learning rate."""
    schedule: ScheduleOptions = field(default_factory=lambda: schedules.get("cosine")())
    """How the learning rate falls; updated at every step."""
    warmup: WarmupOptions | None = None
    """How the learning rate rises at first; its epochs are taken out of the schedule's."""
    optimizer: OptimizerOptions = field(default_factory=lambda: optimizers.get("sgd")())
    """How the gradients change the weights."""
    weight_decay: float = 1e-4
    """How strongly the weights are pulled to 0; each optimiser says in which way."""
    parameter_groups: tuple[ParameterGroupOptions, ...] = ()
    """Parameters with a learning rate and a weight decay of their own. Written as a mapping from name to
    options."""
    no_weight_decay_on_bn: bool = False
    """Decay only the weights of convolutions: not batch normalisation, biases or linear layers."""
    weight_decay_on: tuple[DecayedKind, ...] | None = None
    """Which parameters decay: weights of convolutions (conv) or of linear layers (linear), scales and shifts
    of batch normalisation (bn), all others, such as biases (other). None: all of them, or what
    no_weight_decay_on_bn says, which is short for [conv]."""
    gradient_clip: float | None = None
    """Largest L2 norm of all gradients together; larger ones are scaled down to it."""
    clip_weight_decay: bool = False
    """Add the L2 term of weight decay to the gradients before they are clipped, not after, as code does that
    has this term in its loss."""
    subdivision: int = 1
    """Number of parts in which a batch goes through the network, one after the other; their gradients are
    averaged. Batch normalisation sees ghost batches of batch_size / subdivision (arXiv:1705.08741)."""
    ema_decay: float | None = None
    """Decay of a moving average of the weights: updated at every step, evaluated instead of the weights.
    Short for `average: {name: ema, decay: ...}`."""
    average: AverageOptions | None = None
    """A moving average of the weights."""
    sampling: Literal["shuffle", "replacement"] = "shuffle"
    """How the images of an epoch are drawn. shuffle: each once, in a random order. replacement: as many, each
    drawn from all of them, so that an epoch has some more than once and lacks others."""
    normalisation: Literal["per_channel", "per_channel_computed", "per_pixel"] = "per_channel"
    """per_channel: subtract the data set's mean of each channel, divide by its standard deviation.
    per_channel_computed: the same with mean and deviation of the images that are trained on. per_pixel:
    subtract their mean image, divide by one standard deviation, that of all their pixels and channels; then
    augment, so that a crop has zeros around it and not black."""
    augmentation: tuple[AugmentationOptions, ...] = ()
    """Applied to training images. Written as a mapping from name to options; the order is fixed."""
    select_examples: SelectionOptions | None = None
    """Which images of each batch to train on; None: all. The loss is their mean."""
    label_smoothing: float = 0.0
    """Share of each target spread evenly over all classes (arXiv:1512.00567)."""
    precision: Precision = "fp32"
    """fp32: IEEE. tf32: rounds products on a GPU. mixed: autocast, for fp16 with a gradient scaler.
    pure_fp16: keeps the weights in fp16 too and scales nothing, so small steps are lost."""
    init: Literal["fan_out", "fan_in"] = "fan_out"
    """Mode of the Kaiming normal initialisation (arXiv:1502.01852)."""
    linear_init: Literal["normal", "uniform"] = "normal"
    """How the weights of linear layers start. normal: as those of convolutions. uniform: within
    +-1 / sqrt(outputs), as in the code of AutoAugment (arXiv:1805.09501)."""
    init_from: InitialWeightsOptions | None = None
    """Weights to start from, in place of random ones: fine-tuning. The last layer is new."""
    bn_scale_init: Literal["ones", "normal", "uniform"] = "ones"
    """How the scales of batch normalisation start. normal: drawn from N(1, 0.002), as in
    github.com/gcr/torch-residual-networks. uniform: from 0 to 1, as torch 0.4 did."""
    bn_momentum: float | Literal["dynamic"] | None = None
    """Weight of the current batch in batch normalisation's running statistics. dynamic: 1 / (1 + steps taken
    in this epoch), so that they are the means over the epoch so far. None: the network's own, mostly 0.1."""
    tta: Literal["none", "flip", "six_views", "six_views_equal", "ten_crop"] = "none"
    """Test-time augmentation: the logits of several views of a test image are averaged, for all test metrics.
    flip: the image and its mirror image. six_views (arXiv:2404.00498): 1/4 each for these two; 1/8 each for
    the image shifted by a pixel up and left, or down and right, and for the mirror images of both;
    six_views_equal (github.com/hiverge/cifar10-speedrun): 1/6 for each of these. ten_crop: the corners and
    the centre of a resized image file, and their mirror images; as in fb.resnet.torch, their probabilities
    are averaged, not the logits."""
    tta_least_confident: float = 1.0
    """Share of the test images that have their views averaged: those whose largest probability is lowest.
    Below 1, the prediction for an image depends on the other test images (transductive)."""
    eval_every: int = 1
    """Test after every this many epochs, and always after the last one. On a small training set, where
    a test takes as long as an epoch, a larger number saves up to half the time."""

    def __post_init__(self) -> None:
        """Refuse a config that cannot be trained. Raises ConfigError, naming the option at fault."""
        if self.epochs == int(self.epochs):  # so that 10 and 10.0 are one config
            object.__setattr__(self, "epochs", int(self.epochs))
        if self.stop_after == self.epochs:  # so that both ways to write it are one config
            object.__setattr__(self, "stop_after", None)
        self._check_numbers()
        self._check_decay()
        self._check_training_set()
        if self.warmup:
            problem = "must be below epochs ({}), got {:g}"
            check(self.warmup.epochs < self.epochs, "warmup.epochs", problem, self.epochs, self.warmup.epochs)
        problem = "has no effect: {} draws its weights in its own way"
        own = self.model.own_init
        check(not own or self.init == "fan_out", "init", problem, self.model.label)
        check(not own or self.linear_init == "normal", "linear_init", problem, self.model.label)
        self._check_batch_norm()
        self._check_steps()
        if self.init_from:
            _check_under("init_from", self.init_from.check, self.model)
        for group in self.parameter_groups:
            _check_under(f"parameter_groups.{group.name}", group.check, self.model)
        _check_under("model", check_size, self.model, self.dataset.spec)
        _check_under("model", self.model.check, self.dataset.spec)
        part = self.num_kept // self.subdivision
        self.model.check_batches(self.dataset.spec, part, sync_bn=self.sync_bn)
        _check_under("augmentation", check_all, self.augmentation, self.dataset.spec)
        _check_under("schedule", self.schedule.check, self.epochs)
        if self.select_examples:
            _check_under("select_examples", self.select_examples.check, self)

    def _check_numbers(self) -> None:
        check(self.epochs > 0, "epochs", "must be > 0, got {}", self.epochs)
        stop, problem = self.stop_after, "must be in 1..{} (epochs), got {}"
        check(stop is None or 1 <= stop <= self.epochs, "stop_after", problem, self.epochs, stop)
        check(self.lr > 0, "lr", "must be > 0, got {}", self.lr)
        problem = "must be at most {} (the largest fp16 number) with pure_fp16, got {:g}"
        check(self.precision != "pure_fp16" or self.lr <= MAX_FP16, "lr", problem, MAX_FP16, self.lr)
        check(self.weight_decay >= 0, "weight_decay", "must be >= 0, got {}", self.weight_decay)
        smoothing, clip, decay = self.label_smoothing, self.gradient_clip, self.ema_decay
        check(0 <= smoothing < 1, "label_smoothing", "must be >= 0 and < 1, got {}", smoothing)
        check(self.batch_size > 0, "batch_size", "must be > 0, got {}", self.batch_size)
        check(clip is None or clip > 0, "gradient_clip", "must be > 0, got {}", clip)
        self._check_clip()
        check(decay is None or 0 <= decay < 1, "ema_decay", "must be >= 0 and < 1, got {}", decay)
        both = decay is not None and self.average is not None
        check(not both, "ema_decay", "is short for an average, and there is one already; keep one of the two")
        check(self.eval_every > 0, "eval_every", "must be > 0, got {}", self.eval_every)
        share = self.tta_least_confident
        check(0 < share <= 1, "tta_least_confident", "must be > 0 and <= 1, got {}", share)
        check(share == 1 or self.tta != "none", "tta_least_confident", "has no effect without tta")
        files = self.tta != "ten_crop" or self.dataset.spec.streamed
        check(files, "tta", "ten_crop {}", NEEDS_FILES)
        problem = "must be 1 for images that are streamed, got {}"
        check(share == 1 or not self.dataset.spec.streamed, "tta_least_confident", problem, share)
        check(self.subdivision > 0, "subdivision", "must be > 0, got {}", self.subdivision)
        if self.num_kept % self.subdivision:
            divisors = (n for n in range(1, self.num_kept + 1) if self.num_kept % n == 0)
            nearest = min(divisors, key=lambda n: abs(n - self.subdivision))
            whole = "the images kept of a batch" if self.select_examples else "batch_size"
            got = f"got {self.subdivision}; nearest: {nearest}"
            raise ConfigError("subdivision", f"must divide {whole} ({self.num_kept}), {got}")

    def check_precision(self) -> None:
        """Check what would make every weight NaN. Not part of reading a config: stored ones have such rows.

        Raises:
            ConfigError: the optimiser's `eps` is 0 in fp16.
        """
        eps = getattr(self.optimizer, "eps", math.inf)
        if self.precision == "pure_fp16" and self.optimizer.divides_by_eps and eps <= MIN_FP16 / 2:
            problem = f"{self.optimizer.label} diverges in pure_fp16, where its eps ({eps:g}) is 0"
            raise ConfigError("precision", f"{problem}; nearest: mixed_fp16")

    def _check_decay(self) -> None:
        kinds = self.weight_decay_on
        if kinds is None:
            return
        problem = "cannot stand beside no_weight_decay_on_bn, which is short for [conv]; keep one of the two"
        check(not self.no_weight_decay_on_bn, "weight_decay_on", problem)
        check(bool(kinds), "weight_decay_on", "must name a kind; without decay, say weight_decay: 0")
        check(len(set(kinds)) == len(kinds), "weight_decay_on", "names one twice: {}", ", ".join(kinds))
        object.__setattr__(self, "weight_decay_on", tuple(sorted(kinds)))  # any order is one config

    @property
    def decayed(self) -> tuple[DecayedKind, ...] | None:
        """Kinds of parameters that decay; None: all."""
        return ("conv",) if self.no_weight_decay_on_bn else self.weight_decay_on

    def _check_clip(self) -> None:
        if not self.clip_weight_decay:
            return
        check(self.gradient_clip is not None, "clip_weight_decay", "has no effect without gradient_clip")
        problem = "{} has weight decay that is no term added to the gradient"
        check(self.optimizer.l2, "clip_weight_decay", problem, self.optimizer.label or self.optimizer.name)

    def _check_batch_norm(self) -> None:
        frozen = getattr(self.model, "frozen_bn_scale", False)
        problem = "has no effect: {} has frozen scales"
        check(self.bn_scale_init == "ones" or not frozen, "bn_scale_init", problem, self.model.label)
        momentum = self.bn_momentum
        if not getattr(self.model, "batch_norm", True):
            problem = "has no effect: {} has no batch normalisation"
            for name, off in {"bn_momentum": None, "bn_scale_init": "ones", "sync_bn": False}.items():
                check(getattr(self, name) == off, name, problem, self.model.label)
        in_range = momentum in (None, "dynamic") or 0 < momentum <= 1  # type: ignore[operator]
        check(in_range, "bn_momentum", "must be > 0 and <= 1, or dynamic, got {}", momentum)
        whole = momentum != "dynamic" or self.subdivision == 1
        check(whole, "bn_momentum", "dynamic needs subdivision 1, got {}", self.subdivision)
        problem = "{} has an option for it: model.bn_momentum"
        check(
            momentum is None or not hasattr(self.model, "bn_momentum"),
            "bn_momentum",
            problem,
            self.model.label,
        )

    def _check_steps(self) -> None:
        """Check that what is given in epochs is not shorter than a step."""
        check(self.total_steps > 0, "epochs", "is less than a step, got {:g}", self.epochs)
        for group in self.parameter_groups:
            trained = not group.anneal or group.epochs is None or self.steps_in(group.epochs) > 0
            key = f"parameter_groups.{group.name}.epochs"
            check(trained, key, "is less than a step, got {}", group.epochs)

    def _check_training_set(self) -> None:
        """Check the split, and that the training set has enough images for one step."""
        spec = self.dataset.spec
        of_images = self.train_size, self.val_ratio, self.val_size, self.split_seed
        splits.check_split(spec.num_train, *of_images)
        problem = "cannot be {} for images that are streamed: their mean is not known"
        known = self.normalisation == "per_channel"
        check(known or not spec.streamed, "normalisation", problem, self.normalisation)
        check(self.num_gpus > 0, "num_gpus", "must be > 0, got {}", self.num_gpus)
        check(self.num_gpus > 1 or not self.sync_bn, "sync_bn", "has no effect without num_gpus > 1")
        if self.global_batch_size > self.num_train:
            each = f" on each of {self.num_gpus} GPUs" if self.num_gpus > 1 else ""
            whole = f"the training set of {self.dataset.name} ({self.num_train} images)"
            raise ConfigError("batch_size", f"{self.batch_size}{each} is larger than {whole}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Read a config from plain nested data. Raises ConfigError, naming the option at fault."""
        return read(cls, values)

    def canonical(self) -> dict[str, Any]:
        """Return the shortest nested mapping that reads back as this config: without defaults."""
        return canonical(self)

    def flat(self) -> dict[str, Any]:
        """Return every option by dotted name, defaults included: one row of columns."""
        return flatten(self)

    @property
    def num_train(self) -> int:
        """Number of images to train on."""
        return self.dataset.spec.num_train - self.num_held_out if self.train_size is None else self.train_size

    @property
    def num_held_out(self) -> int:
        """Number of training images that are held out, to be tested on."""
        return splits.num_held_out(self.dataset.spec.num_train, self.val_ratio, self.val_size)

    @property
    def global_batch_size(self) -> int:
        """Images per step on all GPUs together."""
        return self.batch_size * self.num_gpus

    @property
    def num_kept(self) -> int:
        """Images of each GPU's batch that the network trains on."""
        return self.select_examples.num_kept(self.batch_size) if self.select_examples else self.batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch."""
        return self.num_train // self.global_batch_size

    @property
    def images_per_epoch(self) -> int:
        """Images trained on in an epoch: an incomplete last batch is dropped."""
        return self.steps_per_epoch * self.global_batch_size

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.steps_in(self.epochs)

    @property
    def num_epochs(self) -> int:
        """Number of epochs of the whole run, a partial last one included."""
        return -(-self.total_steps // self.steps_per_epoch)

    @property
    def last_epoch(self) -> int:
        """The epoch after which training ends, counted from 1."""
        return self.num_epochs if self.stop_after is None else self.stop_after

    @property
    def num_images(self) -> int:
        """Images to train on, repeats included."""
        return min(self.total_steps, self.last_epoch * self.steps_per_epoch) * self.global_batch_size

    @property
    def running_average(self) -> AverageOptions | None:
        """The moving average of the weights, if there is one."""
        return self.average if self.ema_decay is None else EMA(decay=self.ema_decay)

    def goes_on_from(self, other: TrainConfig, seed: int) -> bool:
        """Return whether a run of this config begins with all that one of `other` does, with the same seed.

        Then it may start from the state in which the other ends.
        """
        if other.last_epoch > self.last_epoch:
            return False
        if replace(self, stop_after=None, augmentation=()) != replace(
            other, stop_after=None, augmentation=()
        ):
            return False
        return all(
            self._augmentation_at(epoch, seed) == other._augmentation_at(epoch, seed)
            for epoch in range(other.last_epoch)
        )

    def _augmentation_at(self, epoch: int, seed: int) -> list[AugmentationOptions]:
        return [options.of_epoch(epoch, self.num_epochs, seed) for options in self.augmentation]

    def steps_in(self, epochs: float) -> int:
        """Return the optimiser steps of so many epochs, to the next whole step."""
        return math.ceil(round(self.steps_per_epoch * epochs, 6))  # 10 x 1.1 is 11.000000000000002

    def lr_at(self, step: int, group: ParameterGroupOptions | None = None) -> float:
        """Return the learning rate of a step, counted from 0: that of a group, or of all other parameters."""
        peak = self.lr if group is None or group.lr is None else group.lr
        if group and group.anneal and group.epochs is not None:
            return peak * max(1 - step / self.steps_in(group.epochs), 0)
        epoch, end = step / self.steps_per_epoch, self.total_steps / self.steps_per_epoch
        start = self.warmup.epochs if self.warmup else 0.0
        if self.warmup and epoch < start:
            return peak * self.warmup.factor(epoch)
        return peak * self.schedule.factor(epoch, start, end)


def _check_under(key: str, check_options: Callable[..., None], *arguments: Any) -> None:
    """Run the check of some options; name its error after the field that holds them: `model.depth`."""
    try:
        check_options(*arguments)
    except ConfigError as error:
        raise ConfigError(f"{key}.{error.key}".rstrip("."), error.problem) from None
