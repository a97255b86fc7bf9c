"""Straight lines between given points."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

from trainer.schedules import ScheduleOptions, schedules
from trainer.schema import check


@schedules.register("piecewise_linear")
@dataclass(frozen=True, kw_only=True, slots=True)
class PiecewiseLinear(ScheduleOptions):
    """lr x the factor on the line between two knots; constant before the first and after the last."""

    in_epochs: ClassVar[tuple[str, ...]] = ("knots",)

    knots: tuple[tuple[float, float], ...]
    """Pairs [epoch, factor]; epochs since the start of the run (warm-up included), increasing."""

    def __post_init__(self) -> None:
        epochs = [epoch for epoch, _ in self.knots]
        knots = [list(knot) for knot in self.knots]
        check(bool(knots), "knots", "must have at least one [epoch, factor]")
        ordered = all(a < b for a, b in itertools.pairwise(epochs)) and epochs[0] >= 0
        check(ordered, "knots", f"must have epochs that are >= 0 and increasing, got {knots}")
        check(all(0 <= f <= 1 for _, f in self.knots), "knots", f"must have factors in 0..1, got {knots}")

    def check(self, epochs: float) -> None:
        last = self.knots[-1][0]
        check(last <= epochs, "knots", f"must not go on after epochs ({epochs:g}), got {last:g}")

    def factor(self, epoch: float, start: float, end: float) -> float:
        before, after = self.knots[0], self.knots[-1]
        if epoch <= before[0]:
            return before[1]
        if epoch >= after[0]:
            return after[1]
        before, after = next((a, b) for a, b in itertools.pairwise(self.knots) if epoch < b[0])
        share = (epoch - before[0]) / (after[0] - before[0])
        return before[1] + share * (after[1] - before[1])
