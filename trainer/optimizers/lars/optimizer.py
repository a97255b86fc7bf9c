"""The step of `trainer.optimizers.lars`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainer.optimizers._foreach import ForeachOptimizer, norms


class LARS(ForeachOptimizer):
    """Layer-wise adaptive rate scaling (You et al., arXiv:1708.03888), with these differences.

    There is no trust coefficient, so peak rates are about a hundredth of SGD's. Parameters with a norm below
    `threshold` take plain steps:

        local = |w| / (|g| + weight_decay |w| + eps), or 1 where |w| < threshold
        v = momentum v + lr local (g + weight_decay w)
        w = w - v
    """

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        weight_decay = group["weight_decay"]
        w, g = norms(params), norms(grads)
        local = w / (g + weight_decay * w + group["eps"])
        rates = group["lr"] * torch.where(w < group["threshold"], 1.0, local)

        steps = torch._foreach_add(grads, params, alpha=weight_decay)
        torch._foreach_mul_(steps, rates.unbind())
        velocity = self.buffers(params, "velocity")
        torch._foreach_mul_(velocity, group["momentum"])
        torch._foreach_add_(velocity, steps)
        torch._foreach_sub_(params, velocity)
