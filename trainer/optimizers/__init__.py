"""Optimisers. Each module holds the options; the step is torch's, or stands beside them in a package."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.registry import Options, Registry

if TYPE_CHECKING:
    import torch

optimizers: Registry[OptimizerOptions] = Registry("optimizer", __name__)


class OptimizerOptions(Options, abc.ABC):
    """The options of one optimiser, besides `lr` and `weight_decay`, which every config has."""

    registry: ClassVar[Registry[OptimizerOptions]] = optimizers
    __slots__ = ()
    label: ClassVar[str] = ""
    """The optimiser's name as tables print it, such as `SGD`; empty: its name in a config."""
    l2: ClassVar[bool] = True
    """Whether weight decay is an L2 term: `weight_decay` x weight, added to the gradient."""

    divides_by_eps: ClassVar[bool] = False
    """Whether steps are divided by `eps` where gradients have been 0: NaN in a format that rounds it to 0."""

    @abc.abstractmethod
    def build(self, groups: list[dict[str, Any]], lr: float, total_steps: int) -> torch.optim.Optimizer:
        """Return the optimiser.

        Args:
            groups: the parameters, each group with `params`, `weight_decay` and perhaps its own `lr`.
            lr: the peak learning rate of the other groups.
            total_steps: optimiser steps of the whole run.
        """
