"""The network of `trainer.models.wrn`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import conv1x1, conv3x3, dropout_layer
from trainer.models.wrn import STAGES, STEM_CHANNELS

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.wrn import WRNOptions


class ParameterFree(nn.Module):
    """A shortcut that averages pixels and adds channels of zeros, half of them on each side."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        before = (c_out - c_in) // 2
        self.channels = before, c_out - c_in - before
        self.pool = nn.Identity() if stride == 1 else nn.AvgPool2d(stride, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        return F.pad(self.pool(x), (0, 0, 0, 0, *self.channels))


class WideBlock(nn.Module):
    """BN-ReLU-conv twice, and a shortcut.

    If the width changes, the shortcut is a 1x1 conv that starts after the first BN-ReLU.

    Args:
        c_in: input channels.
        c_out: output channels.
        stride: of the first conv and the shortcut.
        dropout: probability between the convs.
        free: use a shortcut without parameters if the width changes.
        preact_shortcut: start it after the first BN-ReLU; only used with `free`.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        stride: int,
        dropout: float,
        free: bool = False,
        preact_shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c_in)
        self.residual = nn.Sequential(
            conv3x3(c_in, c_out, stride),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
            *dropout_layer(dropout),
            conv3x3(c_out, c_out),
        )
        same_shape = c_in == c_out and stride == 1
        kind = ParameterFree if free else conv1x1
        self.shortcut = None if same_shape else kind(c_in, c_out, stride)
        self.preact_shortcut = preact_shortcut if free else not same_shape

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        y = F.relu(self.norm(x), inplace=True)
        if self.preact_shortcut:
            x = y
        shortcut: Tensor = self.shortcut(x) if self.shortcut else x
        residual: Tensor = self.residual(y)
        return residual + shortcut


class Bridged(nn.Module):
    """Layers, and a parameter-free shortcut around them all."""

    def __init__(self, layers: nn.Module, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.layers = layers
        self.shortcut = ParameterFree(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        shortcut: Tensor = self.shortcut(x)
        residual: Tensor = self.layers(x)
        return residual + shortcut


class WRN(nn.Module):
    """Stem, three stages, BN-ReLU, global average pool, linear layer."""

    def __init__(self, options: WRNOptions, data: DataSpec) -> None:
        super().__init__()
        c_in = STEM_CHANNELS
        self.stem = conv3x3(data.channels, c_in)
        free = options.shortcuts == "parameter_free"
        self.stages: nn.Module = nn.Sequential()
        for stage, (widening, stride) in enumerate(STAGES):
            c_out = STEM_CHANNELS * options.widening_factor * widening
            first = WideBlock(c_in, c_out, stride, options.dropout, free, preact_shortcut=stage == 0)
            blocks = nn.Sequential(first)
            for _ in range(options.blocks_per_stage - 1):
                blocks.append(WideBlock(c_out, c_out, 1, options.dropout, free))
            self.stages.append(Bridged(blocks, c_in, c_out, stride) if free else blocks)
            c_in = c_out
        if free:
            self.stages = Bridged(self.stages, STEM_CHANNELS, c_in, 4)
        self.norm = nn.BatchNorm2d(c_in)
        self.head = nn.Linear(c_in, data.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (N, 16, H, W)
        x = self.stages(x)  # (N, 64 widening_factor, H/4, W/4)
        x = F.relu(self.norm(x), inplace=True)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (N, 64 widening_factor)
        logits: Tensor = self.head(x)  # (N, num_classes)
        return logits
