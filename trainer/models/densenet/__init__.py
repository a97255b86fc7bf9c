"""Densely connected networks for small images (Huang et al., arXiv:1608.06993)."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.datasets import DataSpec
from trainer.models import ModelOptions, _macs, models
from trainer.models._residual import BlockType, check_depth, check_image_size, check_positive, dropout_suffix
from trainer.schema import check

BOTTLENECK = 4
"""Inner channels of a bottleneck layer, divided by the growth rate."""


@models.register("densenet")
@dataclass(frozen=True, kw_only=True, slots=True)
class DenseNetOptions(ModelOptions):
    """Three dense blocks. With bottleneck layers and a compression of 0.5, it is the paper's DenseNet-BC.

    Unlike in the paper, the stem of the plain DenseNet has 2 x growth_rate channels, not 16, as in
    github.com/hysts/pytorch_image_classification.
    """

    depth: int = 100
    """Layers: 3n + 4 with basic layers, 6n + 4 with bottleneck layers."""
    block_type: BlockType = "basic"
    """Type of the layers. basic: a 3x3 conv. bottleneck: a 1x1 conv before it."""
    growth_rate: int = 12
    """Channels that each layer adds."""
    compression_rate: float = 1.0
    """Fraction of the channels that the transition between two blocks keeps."""
    dropout: float = 0.0
    """Probability after each conv except the first; 0.2 in the paper if images are not augmented."""

    def __post_init__(self) -> None:
        check_depth(self.depth, 3 if self.block_type == "basic" else 6, 4, self.block_type)
        check_positive(self, "growth_rate")
        problem = f"must be > 0 and <= 1, got {self.compression_rate}"
        check(0 < self.compression_rate <= 1, "compression_rate", problem)
        check(0 <= self.dropout < 1, "dropout", f"must be >= 0 and < 1, got {self.dropout}")

    @property
    def label(self) -> str:
        variant = "B" if self.block_type == "bottleneck" else ""
        variant += "C" if self.compression_rate < 1 else ""
        size = f"{variant}-{self.depth}" if variant else f"{self.depth}"
        compression = "" if self.compression_rate in (0.5, 1) else f", compression={self.compression_rate:g}"
        suffix = dropout_suffix(self.dropout, published=0.2)
        return f"DenseNet-{size} (k={self.growth_rate}{compression}){suffix}"

    @property
    def layers_per_block(self) -> int:
        return (self.depth - 4) // (3 if self.block_type == "basic" else 6)

    def check(self, data: DataSpec) -> None:
        check_image_size(data, 4, self.label)  # two transitions halve it

    def macs(self, data: DataSpec) -> int | None:
        side, growth, channels = data.image_size, self.growth_rate, 2 * self.growth_rate
        macs = _macs.conv(side, data.channels, channels)
        for stage in range(3):
            if stage > 0:
                c_in, channels = channels, max(int(channels * self.compression_rate), 1)
                macs += _macs.conv(side, c_in, channels, kernel=1)
                side //= 2
            for _ in range(self.layers_per_block):
                if self.block_type == "basic":
                    macs += _macs.conv(side, channels, growth)
                else:
                    macs += _macs.conv(side, channels, BOTTLENECK * growth, kernel=1)
                    macs += _macs.conv(side, BOTTLENECK * growth, growth)
                channels += growth
        return macs + channels * data.num_classes
