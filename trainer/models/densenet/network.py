"""The network of `trainer.models.densenet`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import conv1x1, conv3x3, dropout_layer
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


class DenseNet(nn.Module):
    """Stem, three dense blocks with transitions, BN-ReLU, global average pool, linear layer."""

    def __init__(self, options: DenseNetOptions, data: DataSpec) -> None:
        super().__init__()
        channels = 2 * options.growth_rate
        self.stem = conv3x3(data.channels, channels)
        self.stages = nn.Sequential()
        for stage in range(3):
            if stage > 0:
                c_in, channels = channels, max(int(channels * options.compression_rate), 1)
                self.stages.append(transition(c_in, channels, options.dropout))
            layers = [
                DenseLayer(channels + index * options.growth_rate, options)
                for index in range(options.layers_per_block)
            ]
            self.stages.append(nn.Sequential(*layers))
            channels += options.layers_per_block * options.growth_rate
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, data.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (N, 2 growth_rate, H, W)
        x = self.stages(x)  # (N, channels, H/4, W/4)
        x = F.relu(self.norm(x), inplace=True)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (N, channels)
        logits: Tensor = self.head(x)  # (N, num_classes)
        return logits
