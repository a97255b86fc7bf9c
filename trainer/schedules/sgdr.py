"""Cosine annealing with warm restarts (Loshchilov & Hutter, arXiv:1608.03983)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from trainer.schedules import ScheduleOptions, schedules
from trainer.schema import check


@schedules.register("sgdr")
@dataclass(frozen=True, kw_only=True, slots=True)
class SGDR(ScheduleOptions):
    """Cosine after cosine, from the end of warm-up on. The last one may be cut short."""

    in_epochs: ClassVar[tuple[str, ...]] = ("first_period",)

    first_period: float
    """T_0: epochs to the first restart."""
    period_factor: float = 1.0
    """T_mul: the length of each period, divided by that of the period before."""
    min_factor: float = 0.001
    """The rate at the end of a period, as a fraction of the peak."""

    def __post_init__(self) -> None:
        check(self.first_period >= 1, "first_period", f"must be >= 1 epoch, got {self.first_period:g}")
        check(self.period_factor >= 1, "period_factor", f"must be >= 1, got {self.period_factor:g}")
        check(0 <= self.min_factor <= 1, "min_factor", f"must be in 0..1, got {self.min_factor}")

    def check(self, epochs: float) -> None:
        problem = f"must be at most epochs ({epochs:g}), got {self.first_period:g}"
        check(self.first_period <= epochs, "first_period", problem)

    def factor(self, epoch: float, start: float, end: float) -> float:
        period = self.first_period
        while epoch >= start + period:
            start += period
            period *= self.period_factor
        progress = (epoch - start) / period
        return self.min_factor + (1 - self.min_factor) * 0.5 * (1 + math.cos(math.pi * progress))
