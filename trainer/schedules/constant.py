"""The peak learning rate throughout."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.schedules import ScheduleOptions, schedules


@schedules.register("constant")
@dataclass(frozen=True, kw_only=True, slots=True)
class Constant(ScheduleOptions):
    """lr stays at its peak."""

    def factor(self, epoch: float, start: float, end: float) -> float:
        return 1.0
