"""The step of `trainer.optimizers.adabound`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from trainer.optimizers._foreach import ForeachOptimizer


def bounds(step: int, final_lr: float, gamma: float) -> tuple[float, float]:
    """Return the lower and the upper bound on a rate at a step, counted from 1."""
    return final_lr * (1 - 1 / (gamma * step + 1)), final_lr * (1 + 1 / (gamma * step))


class AdaBound(ForeachOptimizer):
    """Adam with bounded rates (Luo et al., arXiv:1902.09843).

    m and v are Adam's averages of the gradient and of its square, at step t:

        rate = lr sqrt(1 - beta2^t) / (1 - beta1^t) / (sqrt(v) + eps), clipped to the bounds
        w = w - rate m

    As in the authors' code, the bounds fall with the learning rate (`final_lr` x lr / peak lr), and the
    paper's 1 / sqrt(t) is left to the schedule. Decoupled weight decay is w = w - weight_decay (lr / peak
    lr) w - rate m, as in Loshchilov & Hutter (arXiv:1711.05101); in the authors' code it does not fall with
    the learning rate.
    """

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        group["step"] += 1
        step, (beta1, beta2) = group["step"], group["betas"]
        factor = group["lr"] / group["peak_lr"]
        if not group["decoupled"]:
            grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))

        mean, square = self.buffers(params, "mean"), self.buffers(params, "square")
        torch._foreach_lerp_(mean, grads, 1 - beta1)
        torch._foreach_mul_(square, beta2)
        torch._foreach_addcmul_(square, grads, grads, 1 - beta2)

        lower, upper = bounds(step, factor * group["final_lr"], group["gamma"])
        rates = torch._foreach_sqrt(square)
        torch._foreach_add_(rates, group["eps"])
        torch._foreach_reciprocal_(rates)
        torch._foreach_mul_(rates, group["lr"] * math.sqrt(1 - beta2**step) / (1 - beta1**step))
        torch._foreach_clamp_min_(rates, lower)
        torch._foreach_clamp_max_(rates, upper)

        if group["decoupled"]:
            torch._foreach_mul_(params, 1 - group["weight_decay"] * factor)
        torch._foreach_addcmul_(params, rates, mean, -1)
