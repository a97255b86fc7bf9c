"""Muon for convolution filters (github.com/KellerJordan/cifar10-airbench), SGD for the rest."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.optimizers import OptimizerOptions, optimizers
from trainer.schema import check

if TYPE_CHECKING:
    import torch


@optimizers.register("muon")
@dataclass(frozen=True, kw_only=True, slots=True)
class MuonOptions(OptimizerOptions):
    """Orthogonalised Nesterov steps for parameters with 4 dimensions, SGD with Nesterov momentum for others.

    The defaults are those of airbench94_muon.py. Those of github.com/hiverge/cifar10-speedrun are momentum
    0.655, sgd_momentum 0.825, coefficients 3.4576, -4.7391, 2.0843, rescale_every 2, rescale_growth 15.
    Weight decay of filters is decoupled; that of the others is added to their gradients.
    """

    label: ClassVar[str] = "Muon"
    l2: ClassVar[bool] = False
    momentum: float = 0.6
    """Of filters."""
    sgd_momentum: float = 0.85
    """Of all other parameters."""
    steps: int = 3
    """Newton-Schulz steps."""
    coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315)
    """a, b, c of such a step: a X + b (X X') X + c (X X')² X."""
    rescale_every: int = 1
    """Filters are rescaled to the Frobenius norm sqrt(output channels) once in so many steps."""
    rescale_growth: int = 0
    """By how much `rescale_every` grows, evenly, until the end of the run."""

    def __post_init__(self) -> None:
        for name in ("momentum", "sgd_momentum"):
            value = getattr(self, name)
            check(0 <= value < 1, name, f"must be >= 0 and < 1, got {value}")
        check(self.steps > 0, "steps", f"must be > 0, got {self.steps}")
        check(self.rescale_every > 0, "rescale_every", f"must be > 0, got {self.rescale_every}")
        check(self.rescale_growth >= 0, "rescale_growth", f"must be >= 0, got {self.rescale_growth}")

    def build(self, groups: list[dict[str, Any]], lr: float, total_steps: int) -> torch.optim.Optimizer:
        from trainer.optimizers.muon.optimizer import Muon

        counters = {"step": 0, "rescaled_at": 0, "total_steps": total_steps}
        return Muon(groups, {"lr": lr, **counters, **dataclasses.asdict(self)})
