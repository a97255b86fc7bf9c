"""Base class of our own optimisers: one step for all parameters of a group at once."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class ForeachOptimizer(torch.optim.Optimizer, abc.ABC):
    """Updates each group's parameters together, without waiting for the device."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step. `closure`, if given, first recomputes loss and gradients."""
        loss = None
        if closure:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self.update(group, params, [p.grad for p in params])
        return loss

    @abc.abstractmethod
    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        """Update `params` in place from their `grads`, without changing these."""

    def buffers(self, params: list[Tensor], name: str) -> list[Tensor]:
        """Return the named running value of each parameter; it starts as zeros."""
        for p in params:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in params]


def norms(tensors: list[Tensor]) -> Tensor:
    """Return each tensor's L2 norm, in float32 at least: half precision would overflow."""
    dtype = torch.promote_types(tensors[0].dtype, torch.float32)
    return torch.stack(torch._foreach_norm(tensors, dtype=dtype))
