"""A trial in a few words, for a line in a terminal."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from gridrun.grid.settings import dotted_settings
from gridrun.metrics import format_column
from gridrun.text import format_option, number_of
from gridrun.trial import Trial
from trainer import ConfigError
from trainer.datasets import DatasetOptions
from trainer.models import ModelOptions
from trainer.schema import canonical, defaults, read


def describe(trial: Trial) -> str:
    """Return a trial in a few words: what every trial has, and whatever is not as usual."""
    return ", ".join([*_words(trial), f"seed {trial.seed}"])


def _words(trial: Trial) -> Iterator[str]:
    config = trial.config
    settings = dotted_settings(config)
    yield f"{_labelled(config.dataset)} {_labelled(config.model)}"
    if "optimizer" in settings:
        yield f"{format_column('optimizer', config.optimizer.name)}{_aside(settings, 'optimizer')}"
    yield f"batch size {config.batch_size}"
    if config.num_gpus > 1:
        yield f"{config.num_gpus} GPUs"
    yield f"lr {format_option(config.lr)}"
    yield f"{config.schedule.name}{_aside(settings, 'schedule')}"
    if config.warmup:
        yield f"{config.warmup.name} warm-up{_aside(settings, 'warmup')}"
    yield number_of(config.epochs, "epoch")
    if "precision" in settings:
        yield f"precision {format_column('precision', config.precision)}"
    for options in config.augmentation:
        yield f"{options.name}{_aside(settings, f'augmentation.{options.name}')}"
    for key, value in settings.items():
        if key not in _TOLD and key.partition(".")[0] not in _TOLD_WHOLE:
            yield _said(key, value)


_TOLD = {"batch_size", "num_gpus", "lr", "epochs", "precision"}
_TOLD_WHOLE = {"dataset", "model", "optimizer", "schedule", "warmup", "augmentation"}


def _aside(settings: Mapping[str, Any], whole: str) -> str:
    """Write the options inside of one, in parentheses."""
    inside = {key.removeprefix(f"{whole}."): key for key in settings if key.startswith(f"{whole}.")}
    return _in_parentheses({name: settings[key] for name, key in inside.items() if "." not in name})


@functools.lru_cache(maxsize=2**12)
def _labelled(options: ModelOptions | DatasetOptions) -> str:
    """Write the label of a model or a data set, and the options that it does not tell."""
    untold = {name: value for name, value in canonical(options).items() if not _is_told(options, name)}
    return f"{options.label}{_in_parentheses(untold)}"


def _is_told(options: ModelOptions | DatasetOptions, option: str) -> bool:
    """Return whether the label would be another if the option were the usual one."""
    if option not in defaults(type(options)):
        return True
    try:
        others = {name: value for name, value in canonical(options).items() if name != option}
        return read(type(options), others).label != options.label
    except ConfigError:
        return format_option(getattr(options, option)) in options.label


def _in_parentheses(options: Mapping[str, Any]) -> str:
    told = ", ".join(_said(name, value) for name, value in options.items())
    return f" ({told})" if told else ""


def _said(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    return f"{words} {format_option(value)}"
