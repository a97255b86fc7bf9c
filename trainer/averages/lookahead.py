"""Lookahead (Zhang et al., arXiv:1907.08610), as airbench uses it (arXiv:2404.00498)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.averages import AverageOptions, averages

if TYPE_CHECKING:
    from torch import nn

    from trainer.averages._average import Average


@averages.register("lookahead")
@dataclass(frozen=True, kw_only=True, slots=True)
class Lookahead(AverageOptions):
    """The network goes on from the average after each update, and ends with the average as it is.

    So steps after the last multiple of `every` are discarded.
    """

    decay: float = 0.95
    every: int = 5
    ramp: float = 3.0

    def build(self, model: nn.Module, total_steps: int) -> Average:
        from trainer.averages._average import Lookahead

        return Lookahead(model, self.every, self.decay_at, total_steps)
