"""The network of `trainer.models.resnet`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import conv1x1, conv3x3
from trainer.models._residual import EXPANSION

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.resnet import ResNetOptions


class BasicBlock(nn.Module):
    """Two 3x3 convs and a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv3x3(c_in, c_out, stride),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
            conv3x3(c_out, c_out),
            nn.BatchNorm2d(c_out),
        )
        self.shortcut = projection(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        return F.relu(self.residual(x) + self.shortcut(x))


class BottleneckBlock(nn.Module):
    """A 3x3 conv at a quarter of the width between two 1x1 convs, and a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        c_inner = c_out // EXPANSION
        self.residual = nn.Sequential(
            conv1x1(c_in, c_inner),
            nn.BatchNorm2d(c_inner),
            nn.ReLU(inplace=True),
            conv3x3(c_inner, c_inner, stride),
            nn.BatchNorm2d(c_inner),
            nn.ReLU(inplace=True),
            conv1x1(c_inner, c_out),
            nn.BatchNorm2d(c_out),
        )
        self.shortcut = projection(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        return F.relu(self.residual(x) + self.shortcut(x))


def projection(c_in: int, c_out: int, stride: int) -> nn.Module:
    """Return the shortcut: the identity if the shapes agree, else a 1x1 conv and BN."""
    if c_in == c_out and stride == 1:
        return nn.Identity()
    return nn.Sequential(conv1x1(c_in, c_out, stride), nn.BatchNorm2d(c_out))


class ResNet(nn.Module):
    """Stem, three stages, global average pool, linear layer."""

    def __init__(self, options: ResNetOptions, data: DataSpec) -> None:
        super().__init__()
        c_in = options.initial_channels
        block = BasicBlock if options.block_type == "basic" else BottleneckBlock
        self.stem = nn.Sequential(conv3x3(data.channels, c_in), nn.BatchNorm2d(c_in), nn.ReLU(inplace=True))
        self.stages = nn.Sequential()
        for c_out, stride in zip(options.stage_channels, (1, 2, 2), strict=True):
            blocks = [block(c_in, c_out, stride)]
            blocks += [block(c_out, c_out, 1) for _ in range(options.blocks_per_stage - 1)]
            self.stages.append(nn.Sequential(*blocks))
            c_in = c_out
        self.head = nn.Linear(c_in, data.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (N, initial_channels, H, W)
        x = self.stages(x)  # (N, stage_channels[2], H/4, W/4)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (N, stage_channels[2])
        logits: Tensor = self.head(x)  # (N, num_classes)
        return logits
