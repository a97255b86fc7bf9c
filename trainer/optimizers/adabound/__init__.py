"""AdaBound (Luo et al., arXiv:1902.09843), with either kind of weight decay."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.optimizers import OptimizerOptions, optimizers
from trainer.schema import check

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
    """Added to the root of the average square of the gradients."""

    def __post_init__(self) -> None:
        in_range = all(0 <= beta < 1 for beta in self.betas)
        check(in_range, "betas", f"must be >= 0 and < 1, got {list(self.betas)}")
        check(self.final_lr > 0, "final_lr", f"must be > 0, got {self.final_lr}")
        check(self.gamma > 0, "gamma", f"must be > 0, got {self.gamma}")
        check(self.eps > 0, "eps", f"must be > 0, got {self.eps}")

    def build(self, groups: list[dict[str, Any]], lr: float, total_steps: int) -> torch.optim.Optimizer:
        from trainer.optimizers.adabound.optimizer import AdaBound

        options = {**dataclasses.asdict(self), "decoupled": self.decoupled}
        groups = [{**group, "peak_lr": group.get("lr", lr)} for group in groups]
        return AdaBound(groups, {"lr": lr, "peak_lr": lr, "step": 0, **options})


@optimizers.register("adaboundw")
@dataclass(frozen=True, kw_only=True, slots=True)
class AdaBoundWOptions(AdaBoundOptions):
    """AdaBound with decoupled weight decay (arXiv:1711.05101)."""

    label: ClassVar[str] = "AdaBoundW"
    l2: ClassVar[bool] = False
    decoupled: ClassVar[bool] = True
