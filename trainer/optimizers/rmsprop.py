"""RMSprop (Tieleman & Hinton, 2012): torch's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.optimizers import OptimizerOptions, optimizers
from trainer.schema import check

if TYPE_CHECKING:
    import torch


@optimizers.register("rmsprop")
@dataclass(frozen=True, kw_only=True, slots=True)
class RMSprop(OptimizerOptions):
    """Gradients divided by the root of their mean square; weight decay is the L2 term added to them."""

    label: ClassVar[str] = "RMSprop"
    divides_by_eps: ClassVar[bool] = True
    alpha: float = 0.99
    """Decay of the mean square."""
    momentum: float = 0.0
    """Share of the velocity that the next step keeps."""
    eps: float = 1e-8
    """Added to the root of the mean square."""

    def __post_init__(self) -> None:
        check(0 <= self.alpha < 1, "alpha", f"must be >= 0 and < 1, got {self.alpha}")
        check(0 <= self.momentum < 1, "momentum", f"must be >= 0 and < 1, got {self.momentum}")
        check(self.eps > 0, "eps", f"must be > 0, got {self.eps}")

    def build(self, groups: list[dict[str, Any]], lr: float, total_steps: int) -> torch.optim.Optimizer:
        import torch

        return torch.optim.RMSprop(groups, lr=lr, alpha=self.alpha, momentum=self.momentum, eps=self.eps)
