"""An exponential moving average of a network, tested in its place."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class EMA:
    """Keeps average = decay x average + (1 - decay) x network, starting from the initial weights.

    It averages both the weights and the running statistics of batch normalisation, so that they fit each
    other; integer counters are copied. The average is always float32: with a decay near 1, its updates are
    too small for half precision.

    Args:
        model: the network to average; it is not changed.
        decay: in 0..1. The average reaches back about 1 / (1 - decay) updates.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).float().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average after a training step, without waiting for the device."""
        averages, counts = _state(self.model)
        currents, current_counts = _state(model)
        torch._foreach_lerp_(averages, [value.float() for value in currents], 1 - self.decay)
        for count, current in zip(counts, current_counts, strict=True):
            count.copy_(current)


def _state(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the weights and running statistics, and the integer counters."""
    values = [*model.parameters(), *model.buffers()]
    floats = [value for value in values if value.is_floating_point()]
    return floats, [value for value in values if not value.is_floating_point()]
