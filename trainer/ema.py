"""An exponential moving average of a network, evaluated in its place."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class EMA:
    """Keeps average = decay x average + (1 - decay) x network, from the initial weights on.

    Averaged alike are the weights and the running statistics of batch normalisation, which then
    belong together; what counts in whole numbers is copied. The average is float32 whatever the
    network is, for at a decay near 1 its steps are too small for half precision.

    Args:
        model: to follow; left alone.
        decay: in 0..1. The average reaches back about 1 / (1 - decay) updates.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).float().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the network as it is after a step; nothing in it waits for the device."""
        averages, currents = _floats(self.model), [value.float() for value in _floats(model)]
        torch._foreach_lerp_(averages, currents, 1 - self.decay)
        for count, current in zip(_counts(self.model), _counts(model), strict=True):
            count.copy_(current)


def _floats(model: nn.Module) -> list[Tensor]:
    return [value for value in _state(model) if value.is_floating_point()]


def _counts(model: nn.Module) -> list[Tensor]:
    return [value for value in _state(model) if not value.is_floating_point()]


def _state(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
