"""Step decay at given epochs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

from trainer.schedules import ScheduleOptions, schedules
from trainer.schema import check


@schedules.register("multistep")
@dataclass(frozen=True, kw_only=True, slots=True)
class Multistep(ScheduleOptions):
    """lr x gamma at each milestone, from the first step of that epoch on."""

    in_epochs: ClassVar[tuple[str, ...]] = ("milestones",)

    milestones: tuple[float, ...]
    """Epochs since the start of the run, increasing. A warm-up's epochs count; in
    github.com/hysts/pytorch_image_classification they do not."""
    gamma: float = 0.1
    """Factor at each milestone."""

    def __post_init__(self) -> None:
        ordered = all(a < b for a, b in itertools.pairwise([0.0, *self.milestones]))
        check(ordered, "milestones", f"must be increasing and > 0, got {list(self.milestones)}")
        check(0 < self.gamma <= 1, "gamma", f"must be > 0 and <= 1, got {self.gamma}")

    def check(self, epochs: float) -> None:
        late = [m for m in self.milestones if m >= epochs]
        check(not late, "milestones", f"must be below epochs ({epochs:g}), got {late}")

    def factor(self, epoch: float, start: float, end: float) -> float:
        return self.gamma ** sum(epoch >= milestone for milestone in self.milestones)
