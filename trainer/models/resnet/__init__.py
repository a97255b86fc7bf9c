"""Residual networks, for small images and for ImageNet (He et al., arXiv:1512.03385)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from trainer.models import _macs, models
from trainer.models._residual import (
    BottleneckStride,
    ImageNetResidualOptions,
    ResidualOptions,
    branch_macs,
    check_imagenet_depth,
)
from trainer.schema import check

LastBN = Literal["before_add", "after_add"]


@models.register("resnet")
@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetOptions(ResidualOptions):
    """ResNet-20 to 1202 with basic blocks, ResNet-164 and deeper with bottleneck blocks (section 4.2).

    A block is conv-BN-ReLU-conv-BN, the addition of the shortcut, ReLU. The variants of its end are those of
    github.com/gcr/torch-residual-networks.
    """

    family: ClassVar[str] = "ResNet"

    shortcuts: Literal["conv", "zero_padding"] = "conv"
    """For blocks that change the shape. conv: a 1x1 conv and BN (the paper's option B). zero_padding: every
    second pixel, and channels of zeros (option A, which the paper has for small images)."""
    last_bn: LastBN = "before_add"
    """Where a block's last BN stands: at the end of the branch, or after the addition of the shortcut."""
    last_relu: bool = True
    """End a block with ReLU."""
    stride_in: BottleneckStride = "3x3"
    """For bottleneck blocks: the conv that has the stride, in the paper the first 1x1 conv."""
    conv_bias: bool = False
    """Give convs a bias."""

    def __post_init__(self) -> None:
        super(ResNetOptions, self).__post_init__()  # slots=True makes a new class, unknown to super()
        _check_stride(self)

    @property
    def label(self) -> str:
        label = super(ResNetOptions, self).label
        shortcuts = ["zero-padding shortcuts"] if self.shortcuts == "zero_padding" else []
        bias = ["conv bias"] if self.conv_bias else []
        return ", ".join([label, *shortcuts, *_said_of_blocks(self), *bias])

    def block_macs(self, side: int, c_in: int, c_out: int, stride: int) -> int:
        branch = branch_macs(self.block_type, side, c_in, c_out, stride, self.stride_in)
        free = self.shortcuts == "zero_padding"
        return branch if free else branch + _macs.projection(side, c_in, c_out, stride)


@models.register("resnet_imagenet")
@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetImageNetOptions(ImageNetResidualOptions):
    """For ImageNet: a 7x7 stem and four stages; bottleneck blocks from depth 50 on.

    By default it is torchvision's network of this depth. The variants of a block are those of
    github.com/facebookarchive/fb.resnet.torch. The BN of a shortcut's conv stays where it is.
    """

    shortcuts: ClassVar[str] = "conv"
    conv_bias: ClassVar[bool] = False

    depth: int = 18
    """Layers: 18, 34, 50, 101, 152 or 200."""
    last_bn: LastBN = "before_add"
    """As in `resnet`."""
    last_relu: bool = True
    """As in `resnet`."""
    stride_in: BottleneckStride = "3x3"
    """As in `resnet`."""

    def __post_init__(self) -> None:
        check_imagenet_depth(self.depth)
        _check_stride(self)

    @property
    def label(self) -> str:
        return ", ".join([f"ResNet-{self.depth}", "ImageNet", *_said_of_blocks(self)])

    def block_macs(self, side: int, c_in: int, c_out: int, stride: int) -> int:
        shortcut = _macs.projection(side, c_in, c_out, stride)
        return shortcut + branch_macs(self.block_type, side, c_in, c_out, stride, self.stride_in)


def _check_stride(options: Any) -> None:
    usable = options.block_type == "bottleneck" or options.stride_in == "3x3"
    check(usable, "stride_in", "is for bottleneck blocks only")


def _said_of_blocks(options: Any) -> list[str]:
    """Return what a label says of blocks that differ from the usual ones."""
    said = {
        "BN after add": options.last_bn == "after_add",
        "w/o last ReLU": not options.last_relu,
        "stride in 1x1 conv": options.stride_in == "1x1",
    }
    return [words for words, differs in said.items() if differs]
