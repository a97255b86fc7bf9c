"""The tensors of `trainer.averages`."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Average:
    """A moving average of a network.

    It averages both the weights and the running statistics of batch normalisation, so that they fit each
    other; integer counters are copied. The average is always float32: with a decay near 1, its updates are
    too small for half precision.

    Args:
        model: the network to average.
        every: steps from one update to the next.
        decay_at: returns the decay of the update after so many of the total steps.
        total_steps: steps of the whole run.
    """

    def __init__(
        self, model: nn.Module, every: int, decay_at: Callable[[int, int], float], total_steps: int
    ) -> None:
        self.every, self.decay_at, self.total_steps = every, decay_at, total_steps
        self.model = copy.deepcopy(model).float().requires_grad_(False)

    def evaluated(self, model: nn.Module) -> nn.Module:
        """Return what is tested in the place of the network `model`: the average."""
        return self.model

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Update the average after `step` steps, if an update is due, without waiting for the device."""
        if step % self.every:
            return
        averages, counts = _state(self.model)
        currents, current_counts = _state(model)
        decay = self.decay_at(step, self.total_steps)
        torch._foreach_lerp_(averages, [value.float() for value in currents], 1 - decay)
        for count, current in zip(counts, current_counts, strict=True):
            count.copy_(current)


class Lookahead(Average):
    """An average from which the network goes on after each update."""

    def evaluated(self, model: nn.Module) -> nn.Module:
        """Return the network itself."""
        return model

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Update average and network after `step` steps, if an update is due; at the end, the network."""
        super().update(model, step)
        if step == self.total_steps or step % self.every == 0:
            torch._foreach_copy_(_state(model)[0], _state(self.model)[0])


def _state(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the weights and running statistics, and the integer counters."""
    values = [*model.parameters(), *model.buffers()]
    floats = [value for value in values if value.is_floating_point()]
    return floats, [value for value in values if not value.is_floating_point()]
