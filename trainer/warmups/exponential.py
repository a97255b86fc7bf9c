"""Exponential warm-up."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainer.schema import check
from trainer.warmups import WarmupOptions, warmups


@warmups.register("exponential")
@dataclass(frozen=True, kw_only=True, slots=True)
class Exponential(WarmupOptions):
    """lr rises from `start_factor` times the peak by equal ratios.

    github.com/hysts/pytorch_image_classification means another curve by this name: f + (1 - f) (t/T)^4.
    """

    epochs: float
    """Epochs until the peak is reached."""
    start_factor: float = 0.001
    """The first learning rate, as a fraction of the peak."""

    def __post_init__(self) -> None:
        check(self.epochs > 0, "epochs", f"must be > 0, got {self.epochs:g}")
        check(0 < self.start_factor <= 1, "start_factor", f"must be > 0 and <= 1, got {self.start_factor}")

    def factor(self, epoch: float) -> float:
        return math.pow(self.start_factor, 1 - epoch / self.epochs)
