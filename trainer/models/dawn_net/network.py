"""The network of `trainer.models.dawn_net`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import basic_convs, conv1x1, conv3x3, max_and_mean, reset_parameters

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.dawn_net import DawnNetOptions


class Block(nn.Module):
    """BN-ReLU, then a branch of two convs and a shortcut; without `branch`, the shortcut alone."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, branch: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c_in)
        self.residual = nn.Sequential(*basic_convs(c_in, c_out, stride)) if branch else None
        same = c_in == c_out and stride == 1
        self.shortcut = nn.Identity() if same else conv1x1(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        x = F.relu(self.norm(x), inplace=True)
        shortcut: Tensor = self.shortcut(x)
        return shortcut + self.residual(x) if self.residual else shortcut


class Network(nn.Module):
    """Conv, blocks, max- and mean-pool over the whole map, linear layer."""

    def __init__(self, options: DawnNetOptions, data: DataSpec) -> None:
        super().__init__()
        self.stem = conv3x3(data.channels, options.widths[0])
        self.blocks = nn.Sequential(*(Block(*shape, branch=options.branches) for shape in options.blocks))
        self.head = nn.Linear(2 * options.widths[-1], data.num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W) -> (N, num_classes)
        x = self.blocks(self.stem(x))  # (N, widths[-1], H/8, W/8)
        logits: Tensor = self.head(max_and_mean(x))
        return logits

    def initialise(self) -> None:
        """Draw the first weights, from torch's default generator."""
        reset_parameters(self)
