"""The shared trainer: one config and one seed in, metrics out. It knows nothing of grids or Ray.

    what to train   config, and the options it is made of: models/, datasets/, augmentations/,
                    optimizers/, schedules/, warmups/ (each lists itself in a `registry`)
    where to train  runtime
    data            data/: decoded or streamed images, splits, batches
    the loop        loop, with loss, precision, ema, parallel (several GPUs), seeds, checkpoint
    after it        metrics, evaluation (of kept weights)
    the machine     memory, health, resource_probe

Importing the package is cheap and does not import torch; the first use of `trainer.train` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.config import TrainConfig
from trainer.runtime import Runtime
from trainer.schema import ConfigError
from trainer.version import VERSION

if TYPE_CHECKING:
    from trainer.loop import train as train

__all__ = ["VERSION", "ConfigError", "Runtime", "TrainConfig", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        from trainer.loop import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
