"""LARS without a trust coefficient, for large batches (You et al., arXiv:1708.03888)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.optimizers import OptimizerOptions, optimizers
from trainer.schema import check

if TYPE_CHECKING:
    import torch


@optimizers.register("lars")
@dataclass(frozen=True, kw_only=True, slots=True)
class LARSOptions(OptimizerOptions):
    """SGD with momentum, and a rate for each tensor from its norm and its gradient's norm."""

    label: ClassVar[str] = "LARS"
    l2: ClassVar[bool] = False
    momentum: float = 0.9
    """Share of the velocity that the next step keeps."""
    eps: float = 1e-9
    """Added to the norm of the gradient."""
    threshold: float = 0.01
    """A tensor with a smaller norm has a local rate of 1, because biases start at zero."""

    def __post_init__(self) -> None:
        check(0 <= self.momentum < 1, "momentum", f"must be >= 0 and < 1, got {self.momentum}")
        check(self.eps > 0, "eps", f"must be > 0, got {self.eps}")
        check(self.threshold >= 0, "threshold", f"must be >= 0, got {self.threshold}")

    def build(self, groups: list[dict[str, Any]], lr: float, total_steps: int) -> torch.optim.Optimizer:
        from trainer.optimizers.lars.optimizer import LARS

        return LARS(groups, {"lr": lr, **dataclasses.asdict(self)})
