"""The network of `trainer.models.wrn`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import ParameterFree, StagedNetwork, basic_convs, conv1x1, conv3x3, stacked

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.wrn import WRNOptions


class WideBlock(nn.Module):
    """BN-ReLU-conv twice, with dropout between the convs, and a shortcut.

    If the width changes, the shortcut is a 1x1 conv that starts after the first BN-ReLU. With `free` it has
    no parameters, and starts there only with `preact_shortcut`.
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
        self.residual = nn.Sequential(*basic_convs(c_in, c_out, stride, dropout))
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


class Network(StagedNetwork):
    """A WRN."""

    def __init__(self, options: WRNOptions, data: DataSpec) -> None:
        stem = conv3x3(data.channels, options.stem_channels)
        free, dropout = options.shortcuts == "parameter_free", options.dropout
        stages: nn.Module = stacked(
            [
                WideBlock(*shape, dropout, free, index == 0 and stage == 0)
                for index, shape in enumerate(shapes)
            ]
            for stage, shapes in enumerate(options.stages)
        )
        c_in, c_out = options.stem_channels, options.widths[-1][-1]
        if free:
            bridged = [
                Bridged(stage, *shapes[0])
                for stage, shapes in zip(stages.children(), options.stages, strict=True)
            ]
            stages = Bridged(nn.Sequential(*bridged), c_in, c_out, 4)
        super().__init__(stem, stages, c_out, data.num_classes, last_norm=True)
