"""Averages of a network's weights over the steps of a run."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.registry import Options, Registry
from trainer.schema import check

if TYPE_CHECKING:
    from torch import nn

    from trainer.averages._average import Average

averages: Registry[AverageOptions] = Registry("average", __name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class AverageOptions(Options, abc.ABC):
    """A moving average: average = d x average + (1 - d) x network, starting from the initial weights."""

    registry: ClassVar[Registry[AverageOptions]] = averages
    decay: float
    """Decay a step. An update after `every` steps has d = decay^every (t/T)^ramp after t of T steps."""
    every: int = 1
    """Steps from one update to the next."""
    ramp: float = 0.0
    """Exponent of the share of the run that is over: above 0, the average forgets its start."""

    def __post_init__(self) -> None:
        check(0 <= self.decay < 1, "decay", "must be >= 0 and < 1, got {}", self.decay)
        check(self.every > 0, "every", "must be > 0, got {}", self.every)
        check(self.ramp >= 0, "ramp", "must be >= 0, got {}", self.ramp)

    def decay_at(self, step: int, total_steps: int) -> float:
        """Return d of the update after `step` steps."""
        return float(self.decay**self.every * (step / total_steps) ** self.ramp)

    @abc.abstractmethod
    def build(self, model: nn.Module, total_steps: int) -> Average:
        """Return the average of a network, which starts from its current weights."""
