"""Linear warm-up (Goyal et al., arXiv:1706.02677)."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.schema import check
from trainer.warmups import WarmupOptions, warmups


@warmups.register("linear")
@dataclass(frozen=True, kw_only=True, slots=True)
class Linear(WarmupOptions):
    """lr rises from `start_factor` times the peak by equal steps."""

    epochs: float
    """Epochs until the peak is reached."""
    start_factor: float = 0.001
    """The first learning rate, as a fraction of the peak."""

    def __post_init__(self) -> None:
        check(self.epochs > 0, "epochs", f"must be > 0, got {self.epochs:g}")
        check(0 <= self.start_factor <= 1, "start_factor", f"must be in 0..1, got {self.start_factor}")

    def factor(self, epoch: float) -> float:
        return self.start_factor + (1 - self.start_factor) * epoch / self.epochs
