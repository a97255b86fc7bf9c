"""The shared trainer: one config and one seed in, metrics out. It knows nothing of grids or Ray.

    what to train   config, and the options it is made of: models/, datasets/, augmentations/, optimizers/,
                    schedules/, warmups/, parameter_groups/, averages/, selections/, initial_weights/
                    (each lists itself in a `registry`)
    where to train  runtime
    data            data/: decoded or streamed images, splits, batches
    the step        learner, with loss, precision, parallel (several GPUs), seeds, compiling
    the loop        loop, with clock, checkpoint, metrics
    the network     evaluation (on test sets), kept (weights of an ended trial), features, ages
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
