"""Adadelta (Zeiler, arXiv:1212.5701): torch's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.optimizers import OptimizerOptions, optimizers
from trainer.schema import check

if TYPE_CHECKING:
    import torch


@optimizers.register("adadelta")
@dataclass(frozen=True, kw_only=True, slots=True)
class Adadelta(OptimizerOptions):
    """Steps as large as recent steps were; weight decay is the L2 term added to the gradient.

    The paper has no learning rate: that is lr 1 and a constant schedule.
    """

    label: ClassVar[str] = "Adadelta"
    rho: float = 0.9
    """Decay of the mean squares of the gradients and of the steps."""
    eps: float = 1e-6
    """Added to both mean squares."""

    def __post_init__(self) -> None:
        check(0 <= self.rho < 1, "rho", f"must be >= 0 and < 1, got {self.rho}")
        check(self.eps > 0, "eps", f"must be > 0, got {self.eps}")

    def build(self, groups: list[dict[str, Any]], lr: float, total_steps: int) -> torch.optim.Optimizer:
        import torch

        return torch.optim.Adadelta(groups, lr=lr, rho=self.rho, eps=self.eps)
