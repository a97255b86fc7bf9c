"""A trial and its id: the hash of everything that can change its result, and of nothing else."""

from __future__ import annotations

import functools
import hashlib
import json
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import trainer
from trainer import TrainConfig
from trainer.schema import canonical_value, defaults, field_types

ID_LENGTH = 16
"""Hex digits: 64 bits, so that a million trials collide with a probability of 3e-8."""


def digest(value: Any) -> str:
    """Return the id of plain nested data, equal for equal values however they were written."""
    return _hashed(_text(value))


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def _text(value: Any) -> str:
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    """Give each number one spelling, so that an option may grow from int to float with its ids kept."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def config_id(config: TrainConfig) -> str:
    """Return the id of a config: one cell of a table, whatever its seeds."""
    return config_id_of(option_texts(config).values())


def option_texts(config: TrainConfig) -> dict[str, str]:
    """Return how ids write the options of a config that have not their defaults, by field."""
    return {
        field: _field_text(field, value)
        for field, value, default in zip(_FIELDS, _values_of(config), _DEFAULTS, strict=True)
        if value is not default and value != default
    }


def config_id_of(texts: Iterable[str]) -> str:
    """Return the id of the config whose `option_texts` these are, in any order."""
    return _hashed(f'{{"config":{{{",".join(sorted(texts))}}},"version":{trainer.VERSION}}}')


_FIELDS = sorted(field_types(TrainConfig))
_DEFAULTS = [defaults(TrainConfig).get(field) for field in _FIELDS]
_values_of = operator.attrgetter(*_FIELDS)


@functools.lru_cache(maxsize=2**16)
def _field_text(field: str, value: Any) -> str:
    """Write one option as `digest` does: a large grid has many configs but few values of each option."""
    return f"{_text(field)}:{_text(canonical_value(field_types(TrainConfig)[field], value))}"


def trial_id_of(config_id: str, seed: int) -> str:
    """Return the id of the run of a config with a seed."""
    return _hashed(f'{{"config":"{config_id}","seed":{seed}}}')


@dataclass(frozen=True)
class Trial:
    """One training run: a config and a seed."""

    config: TrainConfig
    seed: int

    @functools.cached_property
    def config_id(self) -> str:
        """Id shared by all seeds of the config."""
        return config_id(self.config)

    @functools.cached_property
    def trial_id(self) -> str:
        """Id of this run."""
        return trial_id_of(self.config_id, self.seed)


@functools.lru_cache(maxsize=2**12)
def config_of(config_json: str) -> TrainConfig:
    """Return the config of a stored row, given its column `config_json`.

    Cached: a running launch reads the configs of its store every few seconds, to update its estimate.

    Raises:
        ConfigError: this version does not know the config, because an option or a model is gone.
        ValueError, TypeError: the text is no JSON of a config.
    """
    return TrainConfig.from_dict(json.loads(config_json))


def trial_of(config_json: str, seed: int) -> Trial:
    """Return the trial of a stored row; raises what `config_of` raises."""
    return Trial(config_of(config_json), seed)
