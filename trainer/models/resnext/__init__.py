"""Residual networks with grouped convolutions, for small images (Xie et al., arXiv:1611.05431)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.models import ModelOptions, _macs, models
from trainer.models._residual import EXPANSION, check_depth, check_positive

if TYPE_CHECKING:
    from torch import nn

    from trainer.datasets import DataSpec


@models.register("resnext")
@dataclass(frozen=True, kw_only=True, slots=True)
class ResNeXtOptions(ModelOptions):
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
    def blocks_per_stage(self) -> int:
        return (self.depth - 2) // 9

    @property
    def stage_channels(self) -> tuple[tuple[int, int], ...]:
        """Inner and output channels of each stage."""
        inner, out = self.cardinality * self.base_channels, self.initial_channels * EXPANSION
        return tuple((inner * widening, out * widening) for widening in (1, 2, 4))

    def macs(self, data: DataSpec) -> int | None:
        side, c_in = data.image_size, self.initial_channels
        inner = {out: inner for inner, out in self.stage_channels}

        def block(side: int, c_in: int, c_out: int, stride: int) -> int:
            branch = _macs.bottleneck(side, c_in, inner[c_out], c_out, stride, self.cardinality)
            return branch + _macs.projection(side, c_in, c_out, stride)

        stages = zip(inner, (1, 2, 2), (self.blocks_per_stage,) * 3, strict=True)
        stem = _macs.conv(side, data.channels, c_in)
        return stem + _macs.staged(side, c_in, stages, block, data.num_classes)

    def build(self, data: DataSpec) -> nn.Module:
        from trainer.models.resnext.network import ResNeXt

        return ResNeXt(self, data)
