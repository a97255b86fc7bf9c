"""SGD whose velocity holds the learning rates of its steps; see `trainer.optimizers.sgd`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainer.optimizers._foreach import ForeachOptimizer


class LRInVelocitySGD(ForeachOptimizer):
    """Nesterov SGD with the learning rate in the velocity (github.com/davidcpage/cifar10-fast).

    d = -lr (g + weight_decay w)
    v = momentum v + d
    w = w + d + momentum v

    torch's velocity holds gradients and is multiplied by the current learning rate instead. Both take the
    same steps while the learning rate is constant.
    """

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        steps = torch._foreach_add(grads, params, alpha=group["weight_decay"])
        torch._foreach_mul_(steps, -group["lr"])
        velocity = self.buffers(params, "velocity")
        torch._foreach_mul_(velocity, group["momentum"])
        torch._foreach_add_(velocity, steps)
        torch._foreach_add_(steps, velocity, alpha=group["momentum"])
        torch._foreach_add_(params, steps)
