"""Residual networks with grouped convolutions, for small images (Xie et al., arXiv:1611.05431)."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.models import _macs, models
from trainer.models._residual import EXPANSION, StagedOptions, check_depth, check_positive


@models.register("resnext")
@dataclass(frozen=True, kw_only=True, slots=True)
class ResNeXtOptions(StagedOptions):
    """Bottleneck blocks whose 3x3 conv has `cardinality` groups."""

    depth: int = 29
    """Layers: 9n + 2."""
    cardinality: int = 8
    """Groups of each 3x3 conv."""
    base_channels: int = 64
    """Channels of each group in the first stage; they double from stage to stage."""
    initial_channels: int = 64
    """Channels of the stem; the stages have 4, 8 and 16 times as many."""

    def __post_init__(self) -> None:
        check_depth(self.depth, 9, 2)
        check_positive(self, "cardinality", "base_channels", "initial_channels")

    @property
    def label(self) -> str:
        label = f"ResNeXt-{self.depth} {self.cardinality}x{self.base_channels}d"
        return label if self.initial_channels == 64 else f"{label}, initial channels {self.initial_channels}"

    @property
    def stem_channels(self) -> int:
        return self.initial_channels

    @property
    def widths(self) -> list[list[int]]:
        blocks = (self.depth - 2) // 9
        return [[self.initial_channels * EXPANSION * widening] * blocks for widening in (1, 2, 4)]

    def inner_channels(self, c_out: int) -> int:
        """Return the channels of the 3x3 conv of a block with `c_out` output channels."""
        return self.cardinality * self.base_channels * c_out // (self.initial_channels * EXPANSION)

    def block_macs(self, side: int, c_in: int, c_out: int, stride: int) -> int:
        inner = self.inner_channels(c_out)
        branch = _macs.bottleneck(side, c_in, inner, c_out, stride, self.cardinality)
        return branch + _macs.projection(side, c_in, c_out, stride)
