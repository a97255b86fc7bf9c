"""The shared trainer: one config and one seed in, metrics out. Knows nothing of grids or Ray.

Importing it is cheap and torch-free; `trainer.train` brings torch in when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.config import TrainConfig
from trainer.runtime import Runtime
from trainer.schema import ConfigError

if TYPE_CHECKING:
    from trainer.loop import train as train

VERSION = 1
"""Part of every trial id. Raise it when a default changes, or what the code computes does."""

__all__ = ["VERSION", "ConfigError", "Runtime", "TrainConfig", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        from trainer.loop import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
