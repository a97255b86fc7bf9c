"""AdaBound (Luo et al., arXiv:1902.09843), with either kind of weight decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.optimizers import OptimizerOptions, optimizers
from trainer.optimizers._checks import check_above_0, check_betas

if TYPE_CHECKING:
    import torch


@optimizers.register("adabound")
@dataclass(frozen=True, kw_only=True, slots=True)
class AdaBoundOptions(OptimizerOptions):
    """Adam, with bounds on its rates that close in on `final_lr`; weight decay is the L2 term."""

    label: ClassVar[str] = "AdaBound"
    decoupled: ClassVar[bool] = False
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the averages of the gradient and of its square."""
    final_lr: float = 0.1
    """The rate that both bounds approach while `lr` is at its peak; it falls with `lr`."""
    gamma: float = 1e-3
    """How fast the bounds approach it, per step."""
    eps: float = 1e-8

    def __post_init__(self) -> None:
        check_betas(self.betas)
        check_above_0("final_lr", self.final_lr)
        check_above_0("gamma", self.gamma)
        check_above_0("eps", self.eps)

    def build(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        from trainer.optimizers.adabound.optimizer import AdaBound

        return AdaBound(
            groups,
            lr,
            betas=self.betas,
            final_lr=self.final_lr,
            gamma=self.gamma,
            eps=self.eps,
            decoupled=self.decoupled,
        )


@optimizers.register("adaboundw")
@dataclass(frozen=True, kw_only=True, slots=True)
class AdaBoundWOptions(AdaBoundOptions):
    """AdaBound with decoupled weight decay (arXiv:1711.05101)."""

    label: ClassVar[str] = "AdaBoundW"
    decoupled: ClassVar[bool] = True
