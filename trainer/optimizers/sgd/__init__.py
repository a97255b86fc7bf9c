"""Stochastic gradient descent with momentum: torch's own, or with the learning rate in the velocity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.optimizers import OptimizerOptions, optimizers
from trainer.schema import check

if TYPE_CHECKING:
    import torch


@optimizers.register("sgd")
@dataclass(frozen=True, kw_only=True, slots=True)
class SGD(OptimizerOptions):
    """SGD; weight decay is the L2 term added to the gradient."""

    label: ClassVar[str] = "SGD"
    momentum: float = 0.9
    """Share of the velocity that the next step keeps."""
    nesterov: bool = True
    """Nesterov's momentum: step from where the velocity leads."""
    lr_in_velocity: bool = False
    """Multiply gradients by the learning rate before they enter the velocity, as in cifar10-fast; torch
    multiplies the velocity. They differ where the learning rate changes."""

    def __post_init__(self) -> None:
        check(0 <= self.momentum < 1, "momentum", f"must be in 0..1, got {self.momentum}")
        check(self.momentum > 0 or not self.nesterov, "nesterov", "needs a momentum > 0")
        check(self.nesterov or not self.lr_in_velocity, "lr_in_velocity", "needs nesterov")

    def build(self, groups: list[dict[str, Any]], lr: float, total_steps: int) -> torch.optim.Optimizer:
        import torch

        if self.lr_in_velocity:
            from trainer.optimizers.sgd.optimizer import LRInVelocitySGD

            return LRInVelocitySGD(groups, {"lr": lr, "momentum": self.momentum})
        return torch.optim.SGD(groups, lr=lr, momentum=self.momentum, nesterov=self.nesterov)
