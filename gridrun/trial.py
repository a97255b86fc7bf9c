"""A trial and its id: a hash of everything that can change the result, and of nothing else."""

from __future__ import annotations

import functools
import hashlib
import json
import operator
from dataclasses import dataclass
from typing import Any

import trainer
from trainer import TrainConfig
from trainer.schema import canonical_value, defaults, field_types, parts

ID_LENGTH = 16
"""Hex digits: 64 bits, so a million trials collide with a probability of 3e-8."""
SHORTEST_ID = 4
"""Digits of the shortest beginning that stands for an id; what is shorter is rather a number or a name."""


def digest(value: Any) -> str:
    """Return the id of plain nested data. Equal values have equal ids, however they were written."""
    return _hashed(_json(value))


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def _json(value: Any) -> str:
    return json.dumps(_unified(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _unified(value: Any) -> Any:
    """Write 3.0 as 3, so that an option may change from int to float and keep its ids."""
    if isinstance(value, dict):
        return {key: _unified(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_unified(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def config_id(config: TrainConfig) -> str:
    """Return the id of a config, which its seeds share: one cell of a table.

    It equals `digest({"config": config.canonical(), "version": trainer.VERSION})`. If parts have a version
    other than 1, `{"parts": {"model": 2}}` is added to it.
    """
    options = [
        _option_json(name, value)
        for name, value, default in zip(_FIELDS, _values_of(config), _DEFAULTS, strict=True)
        if value is not default and value != default
    ]
    versions = {key: part.version for key, part in parts(config) if part.version != 1}
    more = f'"parts":{_json(versions)},' if versions else ""
    return _hashed(f'{{"config":{{{",".join(options)}}},{more}"version":{trainer.VERSION}}}')


_FIELDS = sorted(field_types(TrainConfig))
_DEFAULTS = [defaults(TrainConfig).get(name) for name in _FIELDS]
_values_of = operator.attrgetter(*_FIELDS)


@functools.lru_cache(maxsize=2**16)  # a large grid has many configs, but few values of each option
def _option_json(name: str, value: Any) -> str:
    """Write one option as `digest` does."""
    return f"{_json(name)}:{_json(canonical_value(field_types(TrainConfig)[name], value))}"


@dataclass(frozen=True, slots=True)
class Trial:
    """One training run: a config and a seed."""

    config: TrainConfig
    seed: int
    config_id: str = ""
    """Shared by all seeds of the config. Left out, like `trial_id`: computed."""
    trial_id: str = ""

    def __post_init__(self) -> None:
        if not self.config_id:
            object.__setattr__(self, "config_id", config_id(self.config))
        if not self.trial_id:
            object.__setattr__(self, "trial_id", trial_id(self.config_id, self.seed))


def trial_id(config_id: str, seed: int) -> str:
    """Return the id of the run of a config with a seed."""
    return _hashed(f'{{"config":"{config_id}","seed":{seed}}}')


@functools.lru_cache(maxsize=2**12)
def config_of(config_json: str) -> TrainConfig:
    """Return the config of a stored row, given its column `config_json`.

    Cached: a running launch reads the configs of its store every few seconds, to update its estimate.

    Raises:
        ConfigError: this version does not know the config, because an option or a model is gone.
        ValueError, TypeError: the text is no JSON of a config.
    """
    return TrainConfig.from_dict(json.loads(config_json))
