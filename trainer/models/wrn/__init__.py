"""Wide residual networks (Zagoruyko & Komodakis, arXiv:1605.07146)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trainer.models import ModelOptions, _macs, models
from trainer.models._residual import block_macs, check_depth, check_positive, dropout_suffix
from trainer.schema import check

if TYPE_CHECKING:
    from torch import nn

    from trainer.datasets import DataSpec


STEM_CHANNELS = 16
STAGES = ((1, 1), (2, 2), (4, 2))
"""Width, relative to the first stage, and stride."""


@models.register("wrn")
@dataclass(frozen=True, kw_only=True, slots=True)
class WRNOptions(ModelOptions):
    """Pre-activation basic blocks, `widening_factor` times as wide as those of a ResNet."""

    depth: int = 28
    """Layers: 6n + 4."""
    widening_factor: int = 10
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
    def blocks_per_stage(self) -> int:
        return (self.depth - 4) // 6

    def macs(self, data: DataSpec) -> int | None:
        side, width = data.image_size, STEM_CHANNELS * self.widening_factor
        stages = [(width * wider, stride, self.blocks_per_stage) for wider, stride in STAGES]
        stem = _macs.conv(side, data.channels, STEM_CHANNELS)
        free = self.shortcuts == "parameter_free"
        block = _macs.two_convs if free else functools.partial(block_macs, "basic")
        return stem + _macs.staged(side, STEM_CHANNELS, stages, block, data.num_classes)

    def build(self, data: DataSpec) -> nn.Module:
        from trainer.models.wrn.network import WRN

        return WRN(self, data)
