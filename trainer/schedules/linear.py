"""A straight line from the peak learning rate to the lowest."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.schedules import ScheduleOptions, schedules
from trainer.schema import check


@schedules.register("linear")
@dataclass(frozen=True, kw_only=True, slots=True)
class Linear(ScheduleOptions):
    """lr x (f + (1 - f) x (1 - t/T))."""

    min_factor: float = 0.001
    """f: the rate at the end, as a fraction of the peak."""

    def __post_init__(self) -> None:
        check(0 <= self.min_factor <= 1, "min_factor", f"must be in 0..1, got {self.min_factor}")

    def factor(self, epoch: float, start: float, end: float) -> float:
        progress = (epoch - start) / (end - start)
        return self.min_factor + (1 - self.min_factor) * (1 - progress)
