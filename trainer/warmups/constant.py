"""A lower learning rate at first (He et al., arXiv:1512.03385, for ResNet-110)."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.schema import check
from trainer.warmups import WarmupOptions, warmups


@warmups.register("constant")
@dataclass(frozen=True, kw_only=True, slots=True)
class Constant(WarmupOptions):
    """lr is `start_factor` times the peak, then the peak at once."""

    epochs: float
    """Epochs until the peak is reached."""
    start_factor: float = 0.1
    """The learning rate until then, as a fraction of the peak."""

    def __post_init__(self) -> None:
        check(self.epochs > 0, "epochs", f"must be > 0, got {self.epochs:g}")
        check(0 < self.start_factor <= 1, "start_factor", f"must be > 0 and <= 1, got {self.start_factor}")

    def factor(self, epoch: float) -> float:
        return self.start_factor
