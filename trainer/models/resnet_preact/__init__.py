"""Pre-activation residual networks, for small images and for ImageNet (He et al., arXiv:1603.05027)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainer.models import _macs, models
from trainer.models._residual import (
    ImageNetResidualOptions,
    ResidualOptions,
    branch_macs,
    check_imagenet_depth,
    preact_suffix,
)


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


@models.register("resnet_preact_imagenet")
@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetPreactImageNetOptions(ImageNetResidualOptions):
    """For ImageNet: a 7x7 stem and four stages; bottleneck blocks from depth 50 on.

    The BN-ReLU that follows the stem's conv is the first block's, so it comes after the max-pool.
    """

    depth: int = 18
    """Layers: 18, 34, 50, 101, 152 or 200."""
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

    def block_macs(self, side: int, c_in: int, c_out: int, stride: int) -> int:
        shortcut = _macs.projection(side, c_in, c_out, stride)
        return shortcut + branch_macs(self.block_type, side, c_in, c_out, stride)
