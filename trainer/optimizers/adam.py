"""Adam (Kingma & Ba, arXiv:1412.6980) and AMSGrad (Reddi et al., arXiv:1904.09237): torch's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.optimizers import OptimizerOptions, optimizers
from trainer.schema import check

if TYPE_CHECKING:
    import torch


@optimizers.register("adam")
@dataclass(frozen=True, kw_only=True, slots=True)
class Adam(OptimizerOptions):
    """Adam; weight decay is the L2 term added to the gradient."""

    label: ClassVar[str] = "Adam"
    amsgrad: ClassVar[bool] = False
    divides_by_eps: ClassVar[bool] = True
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the averages of the gradient and of its square."""
    eps: float = 1e-8
    """Added to the root of the average square of the gradients."""

    def __post_init__(self) -> None:
        in_range = all(0 <= beta < 1 for beta in self.betas)
        check(in_range, "betas", f"must be >= 0 and < 1, got {list(self.betas)}")
        check(self.eps > 0, "eps", f"must be > 0, got {self.eps}")

    def build(self, groups: list[dict[str, Any]], lr: float, total_steps: int) -> torch.optim.Optimizer:
        import torch

        return torch.optim.Adam(groups, lr=lr, betas=self.betas, eps=self.eps, amsgrad=self.amsgrad)


@optimizers.register("amsgrad")
@dataclass(frozen=True, kw_only=True, slots=True)
class AMSGrad(Adam):
    """Adam that divides by the largest average square so far."""

    label: ClassVar[str] = "AMSGrad"
    amsgrad: ClassVar[bool] = True
