"""The step of `trainer.optimizers.muon`."""

from __future__ import annotations

from collections import defaultdict
from itertools import compress
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from trainer.optimizers._foreach import ForeachOptimizer, norms

EPS = 1e-7
"""Added to norms, so that filters or gradients of zeros stay zeros."""


class Muon(ForeachOptimizer):
    """Momentum orthogonalised by Newton-Schulz steps, for convolution filters; SGD for the rest.

    For filters w, as a matrix of output channels x rest, with gradient g:

        w = w sqrt(output channels) / |w|, if it is time to rescale
        v = momentum v + g
        w = w - lr orthogonalised(g + momentum v)
        w = w (1 - lr weight_decay)

    All other parameters take the step of torch's SGD with Nesterov momentum and weight decay. The steps of
    a group are counted from 1. It is time to rescale when `rescale_every` + `rescale_growth` step / total
    steps, rounded down, have passed since the last time, or since step 0.
    """

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        group["step"] += 1
        filters = [p.dim() == 4 for p in params]
        others = [not chosen for chosen in filters]
        if any(filters):
            self._update_filters(group, list(compress(params, filters)), list(compress(grads, filters)))
        if any(others):
            self._update_others(group, list(compress(params, others)), list(compress(grads, others)))

    def _update_filters(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        step, lr = group["step"], group["lr"]
        interval = group["rescale_every"] + group["rescale_growth"] * step // group["total_steps"]
        if step - group["rescaled_at"] >= interval:
            group["rescaled_at"] = step
            factors = (norms(params) + EPS).reciprocal().unbind()
            torch._foreach_mul_(factors, [len(p) ** 0.5 for p in params])
            torch._foreach_mul_(params, factors)
        velocity = self.buffers(params, "velocity")
        torch._foreach_mul_(velocity, group["momentum"])
        torch._foreach_add_(velocity, grads)
        directions = torch._foreach_add(grads, velocity, alpha=group["momentum"])
        steps = orthogonalised(list(directions), group["steps"], group["coefficients"])
        torch._foreach_add_(params, steps, alpha=-lr)
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])

    def _update_others(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        sgd(
            params,
            grads,
            [*self.buffers(params, "velocity")],
            weight_decay=group["weight_decay"],
            momentum=group["sgd_momentum"],
            lr=group["lr"],
            dampening=0,
            nesterov=True,
            maximize=False,
        )


def orthogonalised(
    filters: list[Tensor], steps: int, coefficients: tuple[float, float, float]
) -> list[Tensor]:
    """Return filters, each (output channels, ...), orthogonalised as matrices.

    Those of one shape go through the steps together, in bfloat16; on a CPU in float32 at least, because
    many CPUs multiply matrices in bfloat16 tens of times more slowly.
    """
    on_cpu = filters[0].device.type == "cpu"
    dtype = torch.promote_types(filters[0].dtype, torch.float32) if on_cpu else torch.bfloat16
    by_shape: dict[torch.Size, list[int]] = defaultdict(list)
    for place, tensor in enumerate(filters):
        by_shape[tensor.shape].append(place)
    found = list(filters)
    for shape, places in by_shape.items():
        matrices = torch.stack([filters[place].flatten(1) for place in places]).to(dtype)
        results = newton_schulz(matrices, steps, coefficients)
        for place, matrix in zip(places, results, strict=True):
            found[place] = matrix.view(shape)
    return found


def newton_schulz(matrices: Tensor, steps: int, coefficients: tuple[float, float, float]) -> Tensor:
    """Bring the singular values of matrices near 1, between about 0.5 and 1.5, by an odd polynomial.

    Args:
        matrices: (N, rows, columns); the result has their dtype.
        steps: how often X = a X + b (X X') X + c (X X')² X is taken.
        coefficients: a, b, c.
    """
    tall = matrices.shape[1] > matrices.shape[2]  # then X X' is smaller the other way round
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + EPS)
    a, b, c = coefficients
    for _ in range(steps):
        square = x @ x.mT
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x
