"""The network of `trainer.models.shake_shake`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import StagedNetwork, basic_convs, conv1x1, conv3x3, rescale, stacked

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.shake_shake import ShakeShakeOptions


class Shake(nn.Module):
    """Mix two branches with weights that sum to 1, and their gradients with other weights."""

    def __init__(self, options: ShakeShakeOptions) -> None:
        super().__init__()
        self.shake_forward = options.shake_forward
        self.shake_backward = options.shake_backward
        self.shake_image = options.shake_image
        self.normalised = options.shake_weights == "normalised"

    def forward(self, a: Tensor, b: Tensor) -> Tensor:  # two of (N, C, H, W) -> one
        if not self.training:
            return (a + b) / 2
        alpha = self.weights(a, self.shake_forward)
        beta = self.weights(a, self.shake_backward)
        return rescale(a, alpha, beta) + rescale(b, 1 - alpha, 1 - beta)

    def weights(self, like: Tensor, random: bool) -> Tensor:
        """Return the first branch's weights, (N, 1, 1, 1), or (1, 1, 1, 1) if images share one."""
        shape = (len(like) if self.shake_image else 1, 1, 1, 1)
        if not random:
            return torch.full(shape, 0.5, device=like.device)
        if not self.normalised:
            return torch.rand(shape, device=like.device)
        draws = 1 - torch.rand(2, *shape, device=like.device)  # never 0, so neither is their sum
        return draws[0] / draws.sum(0)


class HalvesShortcut(nn.Module):
    """Two 1x1 convs side by side, the second shifted by one pixel down and right, and BN."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.here = conv1x1(c_in, c_out // 2)
        self.beside = conv1x1(c_in, c_out // 2)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        shifted = F.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))
        halves = [
            self.here(x[:, :, :: self.stride, :: self.stride]),
            self.beside(shifted[:, :, :: self.stride, :: self.stride]),
        ]
        out: Tensor = self.norm(torch.cat(halves, 1))
        return out


class ShakeBlock(nn.Module):
    """Two branches of ReLU-conv-BN-ReLU-conv-BN and a shortcut.

    A shortcut with convs starts after the ReLU with `shortcut_relu`, otherwise before it.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, options: ShakeShakeOptions) -> None:
        super().__init__()
        self.branches = nn.ModuleList(  # without the first ReLU, which both share
            nn.Sequential(*basic_convs(c_in, c_out, stride), nn.BatchNorm2d(c_out)) for _ in range(2)
        )
        self.shake = Shake(options)
        self.shortcut_relu = options.shortcut_relu
        self.shortcut = None if c_in == c_out and stride == 1 else HalvesShortcut(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        y = F.relu(x)
        shortcut: Tensor = self.shortcut(y if self.shortcut_relu else x) if self.shortcut else x
        residual: Tensor = self.shake(self.branches[0](y), self.branches[1](y))
        return residual + shortcut


class Network(StagedNetwork):
    """A shake-shake network. Its stages end in a ReLU."""

    def __init__(self, options: ShakeShakeOptions, data: DataSpec) -> None:
        c_in = options.stem_channels
        stem = nn.Sequential(conv3x3(data.channels, c_in), nn.BatchNorm2d(c_in))
        stages = stacked([ShakeBlock(*shape, options) for shape in stage] for stage in options.stages)
        stages.append(nn.ReLU(inplace=True))
        super().__init__(stem, stages, options.widths[-1][-1], data.num_classes, last_norm=False)
