"""The network of `trainer.models.resnet_preact`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import conv1x1, conv3x3, conv7x7
from trainer.models._residual import EXPANSION
from trainer.models.resnet_preact import (
    IMAGENET_STEM_CHANNELS,
    ResNetPreactImageNetOptions,
    ResNetPreactOptions,
)

if TYPE_CHECKING:
    from trainer.datasets import DataSpec


class PreactBlock(nn.Module):
    """BN-ReLU-conv, two or three times, and a shortcut without BN.

    Args:
        c_in: input channels.
        c_out: output channels.
        stride: of the first 3x3 conv and the shortcut.
        options: the network's options.
        preact_shortcut: start the shortcut after the first BN-ReLU, not at the raw input.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        stride: int,
        options: ResNetPreactOptions | ResNetPreactImageNetOptions,
        preact_shortcut: bool,
    ) -> None:
        super().__init__()
        self.preact_shortcut = preact_shortcut
        self.first_relu = preact_shortcut or not options.remove_first_relu
        self.norm = nn.BatchNorm2d(c_in)
        convs = basic_convs if options.block_type == "basic" else bottleneck_convs
        self.residual = convs(c_in, c_out, stride)
        if options.add_last_bn:
            self.residual.append(nn.BatchNorm2d(c_out))
        same_shape = c_in == c_out and stride == 1
        self.shortcut = nn.Identity() if same_shape else conv1x1(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        y = self.norm(x)
        if self.first_relu:
            y = F.relu(y, inplace=True)
        shortcut: Tensor = self.shortcut(y if self.preact_shortcut else x)
        residual: Tensor = self.residual(y)
        return residual + shortcut


def basic_convs(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    """Return two 3x3 convs with BN-ReLU between."""
    return nn.Sequential(
        conv3x3(c_in, c_out, stride),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
        conv3x3(c_out, c_out),
    )


def bottleneck_convs(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    """Return a 3x3 conv at a quarter of the width between two 1x1 convs, with BN-ReLU between."""
    c_inner = c_out // EXPANSION
    return nn.Sequential(
        conv1x1(c_in, c_inner),
        nn.BatchNorm2d(c_inner),
        nn.ReLU(inplace=True),
        conv3x3(c_inner, c_inner, stride),
        nn.BatchNorm2d(c_inner),
        nn.ReLU(inplace=True),
        conv1x1(c_inner, c_out),
    )


class ResNetPreact(nn.Module):
    """Stem, three stages (four for ImageNet), BN-ReLU, global average pool, linear layer."""

    def __init__(self, options: ResNetPreactOptions | ResNetPreactImageNetOptions, data: DataSpec) -> None:
        super().__init__()
        blocks_per_stage: tuple[int, ...]
        if isinstance(options, ResNetPreactImageNetOptions):
            c_in, blocks_per_stage = IMAGENET_STEM_CHANNELS, options.blocks_per_stage
            conv = conv7x7(data.channels, c_in, stride=2)
            self.stem: nn.Module = nn.Sequential(conv, nn.MaxPool2d(3, stride=2, padding=1))
        else:
            c_in, blocks_per_stage = options.initial_channels, (options.blocks_per_stage,) * 3
            self.stem = conv3x3(data.channels, c_in)
        self.stages = nn.Sequential()
        for stage, (c_out, blocks) in enumerate(zip(options.stage_channels, blocks_per_stage, strict=True)):
            first = PreactBlock(c_in, c_out, 2 if stage else 1, options, options.preact_stage[stage])
            rest = [PreactBlock(c_out, c_out, 1, options, preact_shortcut=False) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(first, *rest))
            c_in = c_out
        self.norm = nn.BatchNorm2d(c_in)
        self.head = nn.Linear(c_in, data.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (N, initial_channels, H, W); for ImageNet (N, 64, H/4, W/4)
        x = self.stages(x)  # (N, stage_channels[-1], H/4, W/4); for ImageNet H/32, W/32
        x = F.relu(self.norm(x), inplace=True)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (N, stage_channels[-1])
        logits: Tensor = self.head(x)  # (N, num_classes)
        return logits
