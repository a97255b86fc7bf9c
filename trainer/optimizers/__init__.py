"""Optimisers: options in each module, the step itself torch's or in a package beside them."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.registry import Options, Registry

if TYPE_CHECKING:
    import torch

optimizers: Registry[OptimizerOptions] = Registry("optimizer", __name__)


class OptimizerOptions(Options, abc.ABC):
    """One optimiser's options beside `lr` and `weight_decay`, which every config has."""

    registry: ClassVar[Registry[OptimizerOptions]] = optimizers
    __slots__ = ()
    label: ClassVar[str] = ""
    """The optimiser's name as tables print it, such as `SGD`; empty: as it is in a config."""

    @abc.abstractmethod
    def build(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        """Return the optimiser over parameter groups that each carry `params` and `weight_decay`."""
