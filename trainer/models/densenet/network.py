"""The network of `trainer.models.densenet`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainer.models._layers import StagedNetwork, conv1x1, conv3x3, dropout_layer
from trainer.models.densenet import BOTTLENECK

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.densenet import DenseNetOptions


class DenseLayer(nn.Module):
    """Compute new features from all earlier ones, and append them."""

    def __init__(self, c_in: int, options: DenseNetOptions) -> None:
        super().__init__()
        growth = options.growth_rate
        self.new = nn.Sequential()
        if options.block_type == "bottleneck":
            self.new.extend(norm_relu(c_in))
            self.new.extend([conv1x1(c_in, BOTTLENECK * growth), *dropout_layer(options.dropout)])
            c_in = BOTTLENECK * growth
        self.new.extend(norm_relu(c_in))
        self.new.extend([conv3x3(c_in, growth), *dropout_layer(options.dropout)])

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_in + growth_rate, H, W)
        return torch.cat([x, self.new(x)], 1)


def norm_relu(channels: int) -> list[nn.Module]:
    """Return BN-ReLU."""
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def transition(c_in: int, c_out: int, dropout: float) -> nn.Sequential:
    """Return the layers between two dense blocks: (N, c_in, H, W) -> (N, c_out, H/2, W/2)."""
    return nn.Sequential(*norm_relu(c_in), conv1x1(c_in, c_out), *dropout_layer(dropout), nn.AvgPool2d(2))


class Network(StagedNetwork):
    """A DenseNet: three dense blocks with transitions between."""

    def __init__(self, options: DenseNetOptions, data: DataSpec) -> None:
        channels = 2 * options.growth_rate
        stem, stages = conv3x3(data.channels, channels), nn.Sequential()
        for stage in range(3):
            if stage > 0:
                c_in, channels = channels, max(int(channels * options.compression_rate), 1)
                stages.append(transition(c_in, channels, options.dropout))
            block = nn.Sequential()
            for _ in range(options.layers_per_block):
                block.append(DenseLayer(channels, options))
                channels += options.growth_rate
            stages.append(block)
        super().__init__(stem, stages, channels, data.num_classes, last_norm=True)
