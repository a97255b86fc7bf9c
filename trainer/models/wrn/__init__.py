"""Wide residual networks (Zagoruyko & Komodakis, arXiv:1605.07146)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainer.models import _macs, models
from trainer.models._residual import StagedOptions, check_depth, check_positive, dropout_suffix
from trainer.schema import check


@models.register("wrn")
@dataclass(frozen=True, kw_only=True, slots=True)
class WRNOptions(StagedOptions):
    """Pre-activation basic blocks, `widening_factor` times as wide as those of a ResNet."""

    depth: int = 28
    """Layers: 6n + 4."""
    widening_factor: int = 10
    """Channels, as a multiple of a ResNet's 16, 32 and 64."""
    dropout: float = 0.0
    """Probability between the two convs of each block; 0.3 in the paper's CIFAR experiments."""
    shortcuts: Literal["conv", "parameter_free"] = "conv"
    """For blocks that change the shape. conv: a 1x1 conv. parameter_free: pooling and channels of zeros,
    and such a shortcut around each stage and around all stages too, as in github.com/arcelien/pba
    (arXiv:1905.05393)."""

    def __post_init__(self) -> None:
        check_depth(self.depth, 6, 4)
        check_positive(self, "widening_factor")
        check(0 <= self.dropout < 1, "dropout", f"must be >= 0 and < 1, got {self.dropout}")

    @property
    def label(self) -> str:
        label = f"WRN-{self.depth}-{self.widening_factor}{dropout_suffix(self.dropout, published=0.3)}"
        return label if self.shortcuts == "conv" else f"{label}, parameter-free shortcuts"

    @property
    def widths(self) -> list[list[int]]:
        first, blocks = self.stem_channels * self.widening_factor, (self.depth - 4) // 6
        return [[first * widening] * blocks for widening in (1, 2, 4)]

    def block_macs(self, side: int, c_in: int, c_out: int, stride: int) -> int:
        branch = _macs.two_convs(side, c_in, c_out, stride)
        free = self.shortcuts == "parameter_free"
        return branch if free else branch + _macs.projection(side, c_in, c_out, stride)
