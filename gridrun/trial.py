"""A trial and its id: the hash of everything that can change its result, and of nothing else."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import trainer
from trainer import TrainConfig

ID_LENGTH = 16
"""Hex digits: 64 bits, so that a million trials collide with a probability of 3e-8."""


def digest(value: Any) -> str:
    """Return the id of plain nested data, equal for equal values however they were written."""
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def _plain(value: Any) -> Any:
    """Give each number one spelling, so that an option may grow from int to float with its ids kept."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


@functools.cache
def config_id(config: TrainConfig) -> str:
    """Return the id of a config: one cell of a table, whatever its seeds."""
    return digest({"config": config.canonical(), "version": trainer.VERSION})


@dataclass(frozen=True, slots=True)
class Trial:
    """One training run: a config and a seed."""

    config: TrainConfig
    seed: int

    @property
    def config_id(self) -> str:
        """Id shared by all seeds of the config."""
        return config_id(self.config)

    @property
    def trial_id(self) -> str:
        """Id of this run."""
        return digest({"config": self.config_id, "seed": self.seed})
