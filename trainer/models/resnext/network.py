"""The network of `trainer.models.resnext`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import conv1x1, conv3x3
from trainer.models.resnet.network import projection

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.resnext import ResNeXtOptions


class ResNeXtBlock(nn.Module):
    """A grouped 3x3 conv between two 1x1 convs, and a shortcut."""

    def __init__(self, c_in: int, c_inner: int, c_out: int, stride: int, cardinality: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv1x1(c_in, c_inner),
            nn.BatchNorm2d(c_inner),
            nn.ReLU(inplace=True),
            conv3x3(c_inner, c_inner, stride, groups=cardinality),
            nn.BatchNorm2d(c_inner),
            nn.ReLU(inplace=True),
            conv1x1(c_inner, c_out),
            nn.BatchNorm2d(c_out),
        )
        self.shortcut = projection(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        return F.relu(self.residual(x) + self.shortcut(x))


class ResNeXt(nn.Module):
    """Stem, three stages, global average pool, linear layer."""

    def __init__(self, options: ResNeXtOptions, data: DataSpec) -> None:
        super().__init__()
        c_in = options.initial_channels
        self.stem = nn.Sequential(conv3x3(data.channels, c_in), nn.BatchNorm2d(c_in), nn.ReLU(inplace=True))
        self.stages = nn.Sequential()
        for (c_inner, c_out), stride in zip(options.stage_channels, (1, 2, 2), strict=True):
            blocks = [ResNeXtBlock(c_in, c_inner, c_out, stride, options.cardinality)]
            blocks += [
                ResNeXtBlock(c_out, c_inner, c_out, 1, options.cardinality)
                for _ in range(options.blocks_per_stage - 1)
            ]
            self.stages.append(nn.Sequential(*blocks))
            c_in = c_out
        self.head = nn.Linear(c_in, data.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (N, initial_channels, H, W)
        x = self.stages(x)  # (N, 16 initial_channels, H/4, W/4)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (N, 16 initial_channels)
        logits: Tensor = self.head(x)  # (N, num_classes)
        return logits
