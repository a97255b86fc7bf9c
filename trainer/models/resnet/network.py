"""The network of `trainer.models.resnet`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import (
    ParameterFree,
    StagedNetwork,
    basic_convs,
    bottleneck_convs,
    conv1x1,
    conv3x3,
    conv7x7,
    stacked,
)
from trainer.models._residual import EXPANSION

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.resnet import ResNetImageNetOptions, ResNetOptions


class ResidualBlock(nn.Module):
    """Convs and a shortcut, the sum of both, ReLU. See `ResNetOptions`.

    Args:
        c_in: input channels.
        c_out: output channels.
        stride: of the block.
        convs: the branch, but for its last BN.
        zero_padding: for a block that changes the shape, take a shortcut without parameters.
        bn_after_add: put the last BN after the sum.
        last_relu: end with ReLU.
        bias: give the shortcut's conv a bias.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        stride: int,
        convs: list[nn.Module],
        *,
        zero_padding: bool = False,
        bn_after_add: bool = False,
        last_relu: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(c_out)
        self.residual = nn.Sequential(*convs) if bn_after_add else nn.Sequential(*convs, norm)
        self.shortcut: nn.Module
        if c_in == c_out and stride == 1:
            self.shortcut = nn.Identity()
        elif zero_padding:
            self.shortcut = ParameterFree(c_in, c_out, stride, mean=False)
        else:
            conv = conv1x1(c_in, c_out, stride, bias=bias)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(c_out))
        self.norm = norm if bn_after_add else None
        self.last_relu = last_relu

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        total: Tensor = self.residual(x) + self.shortcut(x)
        if self.norm:
            total = self.norm(total)
        return F.relu(total) if self.last_relu else total


class Network(StagedNetwork):
    """A ResNet, for small images or for ImageNet."""

    def __init__(self, options: ResNetOptions | ResNetImageNetOptions, data: DataSpec) -> None:
        def block(c_in: int, c_out: int, stride: int) -> ResidualBlock:
            if options.block_type == "basic":
                convs = basic_convs(c_in, c_out, stride, bias=bias)
            else:
                inner, stride_in = c_out // EXPANSION, options.stride_in
                convs = bottleneck_convs(c_in, inner, c_out, stride, stride_in=stride_in, bias=bias)
            return ResidualBlock(
                c_in,
                c_out,
                stride,
                convs,
                zero_padding=options.shortcuts == "zero_padding",
                bn_after_add=options.last_bn == "after_add",
                last_relu=options.last_relu,
                bias=bias,
            )

        first, bias = options.stem_channels, options.conv_bias
        large = options.imagenet_stem
        conv = conv7x7(data.channels, first, 2) if large else conv3x3(data.channels, first, bias=bias)
        stem = nn.Sequential(conv, nn.BatchNorm2d(first), nn.ReLU(inplace=True))
        if large:
            stem.append(nn.MaxPool2d(3, stride=2, padding=1))
        stages = stacked([block(*shape) for shape in stage] for stage in options.stages)
        super().__init__(stem, stages, options.widths[-1][-1], data.num_classes, last_norm=False)
