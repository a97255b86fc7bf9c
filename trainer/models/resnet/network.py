"""The network of `trainer.models.resnet`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import StagedNetwork, conv1x1, conv3x3, residual_convs, stacked

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.resnet import ResNetOptions


class ResidualBlock(nn.Module):
    """Convs and a shortcut: the identity if the shapes agree, else a 1x1 conv and BN."""

    def __init__(self, c_in: int, c_out: int, stride: int, convs: list[nn.Module]) -> None:
        super().__init__()
        self.residual = nn.Sequential(*convs, nn.BatchNorm2d(c_out))
        if c_in == c_out and stride == 1:
            self.shortcut: nn.Module = nn.Identity()
        else:
            self.shortcut = nn.Sequential(conv1x1(c_in, c_out, stride), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        return F.relu(self.residual(x) + self.shortcut(x))


class Network(StagedNetwork):
    """A ResNet."""

    def __init__(self, options: ResNetOptions, data: DataSpec) -> None:
        c_in, kind = options.initial_channels, options.block_type
        stem = nn.Sequential(conv3x3(data.channels, c_in), nn.BatchNorm2d(c_in), nn.ReLU(inplace=True))
        stages = stacked(
            [ResidualBlock(*shape, residual_convs(kind, *shape)) for shape in stage]
            for stage in options.stages
        )
        super().__init__(stem, stages, options.widths[-1][-1], data.num_classes, last_norm=False)
