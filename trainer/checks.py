"""What a config refuses. Each check reads the options that its parameters name, and no others.

So `read_together` can say which options need to be seen beside each other: the rest of a config is of
no account to a check that has passed, and a large grid checks what is new alone. Torch-free.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from trainer.augmentations import check_all
from trainer.data import splits
from trainer.models import check_size
from trainer.schema import ConfigError, check

if TYPE_CHECKING:
    from trainer.augmentations import AugmentationOptions
    from trainer.config import Precision, TrainConfig
    from trainer.datasets import DatasetOptions
    from trainer.models import ModelOptions
    from trainer.schedules import ScheduleOptions
    from trainer.warmups import WarmupOptions

MAX_FP16 = 65504


class _Check(NamedTuple):
    names: tuple[str, ...]
    values: Callable[[TrainConfig], Any]
    """Returns those of a config: one value, or a tuple."""
    run: Callable[..., None]


_CHECKS: list[_Check] = []


def check_config(config: TrainConfig) -> None:
    """Raise ConfigError, naming the option at fault, if a config cannot be trained."""
    for names, values, run in _CHECKS:
        if len(names) == 1:
            run(values(config))
        else:
            run(*values(config))


def read_together() -> tuple[tuple[str, ...], ...]:
    """Return the options that each check reads."""
    return tuple(one.names for one in _CHECKS)


def _checks(function: Callable[..., None]) -> Callable[..., None]:
    """Have a function check every config, after those above it."""
    names = tuple(inspect.signature(function).parameters)
    _CHECKS.append(_Check(names, operator.attrgetter(*names), function))
    return function


@_checks
def _epochs(epochs: int) -> None:
    check(epochs > 0, "epochs", "must be > 0, got {}", epochs)


@_checks
def _lr(lr: float) -> None:
    check(lr > 0, "lr", "must be > 0, got {}", lr)


@_checks
def _lr_in_fp16(lr: float, precision: Precision) -> None:
    problem = "must be at most {} (the largest fp16 number) with pure_fp16, got {:g}"
    check(precision != "pure_fp16" or lr <= MAX_FP16, "lr", problem, MAX_FP16, lr)


@_checks
def _weight_decay(weight_decay: float) -> None:
    check(weight_decay >= 0, "weight_decay", "must be >= 0, got {}", weight_decay)


@_checks
def _label_smoothing(label_smoothing: float) -> None:
    check(0 <= label_smoothing < 1, "label_smoothing", "must be in 0..1, got {}", label_smoothing)


@_checks
def _batch_size(batch_size: int) -> None:
    check(batch_size > 0, "batch_size", "must be > 0, got {}", batch_size)


@_checks
def _gradient_clip(gradient_clip: float | None) -> None:
    check(gradient_clip is None or gradient_clip > 0, "gradient_clip", "must be > 0, got {}", gradient_clip)


@_checks
def _ema_decay(ema_decay: float | None) -> None:
    known = ema_decay is None or 0 <= ema_decay < 1
    check(known, "ema_decay", "must be >= 0 and < 1, got {}", ema_decay)


@_checks
def _eval_every(eval_every: int) -> None:
    check(eval_every > 0, "eval_every", "must be > 0, got {}", eval_every)


@_checks
def _subdivision(subdivision: int, batch_size: int) -> None:
    check(subdivision > 0, "subdivision", "must be > 0, got {}", subdivision)
    if batch_size % subdivision:
        divisors = (n for n in range(1, batch_size + 1) if batch_size % n == 0)
        nearest = min(divisors, key=lambda n: abs(n - subdivision))
        problem = f"must divide batch_size ({batch_size}), got {subdivision}; nearest: {nearest}"
        raise ConfigError("subdivision", problem)


@_checks
def _split(dataset: DatasetOptions, train_size: int | None, val_ratio: float, split_seed: int) -> None:
    splits.check_split(dataset.spec.num_train, train_size, val_ratio, split_seed)


@_checks
def _num_gpus(num_gpus: int, sync_bn: bool) -> None:
    check(num_gpus > 0, "num_gpus", "must be > 0, got {}", num_gpus)
    check(num_gpus > 1 or not sync_bn, "sync_bn", "has no effect without num_gpus > 1")


@_checks
def _global_batch(
    dataset: DatasetOptions, train_size: int | None, val_ratio: float, batch_size: int, num_gpus: int
) -> None:
    num_train = splits.num_train(dataset.spec.num_train, train_size, val_ratio)
    each = f" on each of {num_gpus} GPUs" if num_gpus > 1 else ""
    problem = "{}{} is larger than the training set of {} ({} images)"
    fits = batch_size * num_gpus <= num_train
    check(fits, "batch_size", problem, batch_size, each, dataset.name, num_train)


@_checks
def _warmup(warmup: WarmupOptions | None, epochs: int) -> None:
    if warmup:
        problem = "must be below epochs ({}), got {:g}"
        check(warmup.epochs < epochs, "warmup.epochs", problem, epochs, warmup.epochs)


@_checks
def _model(model: ModelOptions, dataset: DatasetOptions) -> None:
    _under("model", check_size, model, dataset.spec)
    _under("model", model.check, dataset.spec)


@_checks
def _augmentation(augmentation: tuple[AugmentationOptions, ...], dataset: DatasetOptions) -> None:
    _under("augmentation", check_all, augmentation, dataset.spec)


@_checks
def _schedule(schedule: ScheduleOptions, epochs: int) -> None:
    _under("schedule", schedule.check, epochs)


def _under(key: str, check_options: Callable[..., None], *facts: Any) -> None:
    """Run the options' own check; name an error after the field that holds them."""
    try:
        check_options(*facts)
    except ConfigError as error:
        raise ConfigError(f"{key}.{error.key}".rstrip("."), error.problem) from None
