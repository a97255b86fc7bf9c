"""The network of `trainer.models.wrn`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import conv1x1, conv3x3, dropout_layer
from trainer.models.wrn import STEM_CHANNELS

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.wrn import WRNOptions


class WideBlock(nn.Module):
    """BN-ReLU-conv twice, and a shortcut.

    Where the width changes, the shortcut is a 1x1 conv fed from after the first BN-ReLU.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c_in)
        self.residual = nn.Sequential(
            conv3x3(c_in, c_out, stride),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
            *dropout_layer(dropout),
            conv3x3(c_out, c_out),
        )
        self.shortcut = None if c_in == c_out and stride == 1 else conv1x1(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        y = F.relu(self.norm(x), inplace=True)
        shortcut: Tensor = self.shortcut(y) if self.shortcut else x
        residual: Tensor = self.residual(y)
        return residual + shortcut


class WRN(nn.Module):
    """Stem, three stages, BN-ReLU, global average pool, linear layer."""

    def __init__(self, options: WRNOptions, data: DataSpec) -> None:
        super().__init__()
        c_in = STEM_CHANNELS
        self.stem = conv3x3(data.channels, c_in)
        self.stages = nn.Sequential()
        for widening, stride in ((1, 1), (2, 2), (4, 2)):
            c_out = STEM_CHANNELS * options.widening_factor * widening
            blocks = [WideBlock(c_in, c_out, stride, options.dropout)]
            blocks += [
                WideBlock(c_out, c_out, 1, options.dropout) for _ in range(options.blocks_per_stage - 1)
            ]
            self.stages.append(nn.Sequential(*blocks))
            c_in = c_out
        self.norm = nn.BatchNorm2d(c_in)
        self.head = nn.Linear(c_in, data.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (N, 16, H, W)
        x = self.stages(x)  # (N, 64 widening_factor, H/4, W/4)
        x = F.relu(self.norm(x), inplace=True)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (N, 64 widening_factor)
        logits: Tensor = self.head(x)  # (N, num_classes)
        return logits
