"""Pre-activation residual networks, for small images and for ImageNet (He et al., arXiv:1603.05027)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.models import ModelOptions, _macs, models
from trainer.models._residual import (
    EXPANSION,
    IMAGENET_BLOCKS,
    BlockType,
    ResidualOptions,
    block_macs,
    check_image_size,
    check_imagenet_depth,
    preact_suffix,
)

if TYPE_CHECKING:
    from torch import nn

    from trainer.datasets import DataSpec

IMAGENET_STEM_CHANNELS = 64


@models.register("resnet_preact")
@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetPreactOptions(ResidualOptions):
    """BN-ReLU before each conv; with the options of Han et al., arXiv:1610.02915."""

    family: ClassVar[str] = "ResNet-preact"

    remove_first_relu: bool = False
    """No ReLU between a block's first BN and its first conv. A first block keeps it if its shortcut starts
    after BN-ReLU (`preact_stage`)."""
    add_last_bn: bool = False
    """One more BN at the end of each residual branch."""
    preact_stage: tuple[bool, bool, bool] = (True, True, True)
    """For each stage: does the shortcut of its first block start after BN-ReLU (true) or at the raw input
    (false)? All other shortcuts are the identity on the raw input."""

    @property
    def label(self) -> str:
        label = super(ResNetPreactOptions, self).label  # slots=True makes a new class, unknown to super()
        return label + preact_suffix(self.remove_first_relu, self.add_last_bn, self.preact_stage)

    def build(self, data: DataSpec) -> nn.Module:
        from trainer.models.resnet_preact.network import ResNetPreact

        return ResNetPreact(self, data)


@models.register("resnet_preact_imagenet")
@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetPreactImageNetOptions(ModelOptions):
    """For ImageNet: a 7x7 stem and four stages; bottleneck blocks from depth 50 on.

    The BN-ReLU that follows the stem's conv is the first block's, so it comes after the max-pool.
    """

    depth: int = 18
    remove_first_relu: bool = False
    """As in `resnet_preact`."""
    add_last_bn: bool = False
    """As in `resnet_preact`."""
    preact_stage: tuple[bool, bool, bool, bool] = (True, True, True, True)
    """As in `resnet_preact`, for four stages."""

    def __post_init__(self) -> None:
        check_imagenet_depth(self.depth)

    @property
    def label(self) -> str:
        variant = preact_suffix(self.remove_first_relu, self.add_last_bn, self.preact_stage)
        return f"ResNet-preact-{self.depth}, ImageNet{variant}"

    @property
    def block_type(self) -> BlockType:
        return "basic" if self.depth < 50 else "bottleneck"

    @property
    def blocks_per_stage(self) -> tuple[int, int, int, int]:
        return IMAGENET_BLOCKS[self.depth]

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Output channels of each stage."""
        expansion = EXPANSION if self.block_type == "bottleneck" else 1
        return tuple(IMAGENET_STEM_CHANNELS * expansion * widening for widening in (1, 2, 4, 8))

    def check(self, data: DataSpec) -> None:
        check_image_size(data, 64, self.label)

    def macs(self, data: DataSpec) -> int | None:
        quarter = _macs.shrunk(_macs.shrunk(data.image_size, 2), 2)
        stages = zip(self.stage_channels, (1, 2, 2, 2), self.blocks_per_stage, strict=True)
        stem = _macs.conv(data.image_size, data.channels, IMAGENET_STEM_CHANNELS, kernel=7, stride=2)
        block = functools.partial(block_macs, self.block_type)
        return stem + _macs.staged(quarter, IMAGENET_STEM_CHANNELS, stages, block, data.num_classes)

    def build(self, data: DataSpec) -> nn.Module:
        from trainer.models.resnet_preact.network import ResNetPreact

        return ResNetPreact(self, data)
