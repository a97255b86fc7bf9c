"""Adagrad (Duchi et al., JMLR 12, 2011): torch's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.optimizers import OptimizerOptions, optimizers
from trainer.schema import check

if TYPE_CHECKING:
    import torch


@optimizers.register("adagrad")
@dataclass(frozen=True, kw_only=True, slots=True)
class Adagrad(OptimizerOptions):
    """Gradients divided by the root of the sum of all squares; weight decay is the L2 term added to them."""

    label: ClassVar[str] = "Adagrad"
    divides_by_eps: ClassVar[bool] = True
    eps: float = 1e-10
    """Added to the root of the sum of squares."""

    def __post_init__(self) -> None:
        check(self.eps > 0, "eps", f"must be > 0, got {self.eps}")

    def build(self, groups: list[dict[str, Any]], lr: float, total_steps: int) -> torch.optim.Optimizer:
        import torch

        return torch.optim.Adagrad(groups, lr=lr, eps=self.eps)
