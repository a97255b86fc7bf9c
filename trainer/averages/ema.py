"""An exponential moving average, tested in the network's place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.averages import AverageOptions, averages

if TYPE_CHECKING:
    from torch import nn

    from trainer.averages._average import Average


@averages.register("ema")
@dataclass(frozen=True, kw_only=True, slots=True)
class EMA(AverageOptions):
    """The network trains on as without it; the average is tested and kept."""

    def build(self, model: nn.Module, total_steps: int) -> Average:
        from trainer.averages._average import Average

        return Average(model, self.every, self.decay_at, total_steps)
