"""The network of `trainer.models.pyramidnet`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import conv1x1, conv3x3, conv7x7, rescale
from trainer.models._residual import EXPANSION

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.pyramidnet import PyramidOptions


class ShakeDrop(nn.Module):
    """Multiply a residual branch by random factors (Yamada et al., arXiv:1802.02375).

    Activations are multiplied by b + alpha - b alpha, gradients by b + beta - b beta. Per image, b is 1
    with the survival probability and else 0, alpha is uniform in -1..1 and beta in 0..1. In evaluation,
    activations are multiplied by the expected value, which is the survival probability.
    """

    def __init__(self, survival_probability: float) -> None:
        super().__init__()
        self.survival_probability = survival_probability

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W), unchanged
        if not self.training:
            return x * self.survival_probability
        survival, alpha, beta = torch.rand(3, len(x), 1, 1, 1, device=x.device)
        survives = survival < self.survival_probability
        return rescale(x, torch.where(survives, 1.0, 2 * alpha - 1), torch.where(survives, 1.0, beta))


class PyramidUnit(nn.Module):
    """BN-conv-BN-ReLU-conv-BN, with one more BN-ReLU-conv if bottleneck, and a shortcut.

    The shortcut has no parameters: it averages 2x2 pixels at stride 2 and adds channels of zeros.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, bottleneck: bool, survival: float | None) -> None:
        super().__init__()
        convs = bottleneck_convs if bottleneck else basic_convs
        self.residual = convs(c_in, c_out, stride)
        if survival is not None:
            self.residual.append(ShakeDrop(survival))
        self.new_channels = c_out - c_in
        self.pool = nn.Identity() if stride == 1 else nn.AvgPool2d(stride, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        residual: Tensor = self.residual(x)
        return residual + F.pad(self.pool(x), (0, 0, 0, 0, 0, self.new_channels))


def basic_convs(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    """Return the residual branch of a basic unit."""
    return nn.Sequential(
        nn.BatchNorm2d(c_in),
        conv3x3(c_in, c_out, stride),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
        conv3x3(c_out, c_out),
        nn.BatchNorm2d(c_out),
    )


def bottleneck_convs(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    """Return the residual branch of a bottleneck unit."""
    c_inner = c_out // EXPANSION
    return nn.Sequential(
        nn.BatchNorm2d(c_in),
        conv1x1(c_in, c_inner),
        nn.BatchNorm2d(c_inner),
        nn.ReLU(inplace=True),
        conv3x3(c_inner, c_inner, stride),
        nn.BatchNorm2d(c_inner),
        nn.ReLU(inplace=True),
        conv1x1(c_inner, c_out),
        nn.BatchNorm2d(c_out),
    )


def stem(c_in: int, c_out: int, imagenet: bool) -> nn.Sequential:
    """Return the first layers: (N, c_in, H, W) -> (N, c_out, H, W), or H/4 and W/4 for ImageNet."""
    if not imagenet:
        return nn.Sequential(conv3x3(c_in, c_out), nn.BatchNorm2d(c_out))
    return nn.Sequential(
        conv7x7(c_in, c_out, stride=2),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


class PyramidNet(nn.Module):
    """Stem, three or four stages, BN-ReLU, global average pool, linear layer."""

    def __init__(self, options: PyramidOptions, data: DataSpec) -> None:
        super().__init__()
        bottleneck = options.unit_type == "bottleneck"
        units = iter(zip(options.unit_channels, options.survival_probabilities, strict=True))
        c_in = options.stem_channels
        self.stem = stem(data.channels, c_in, options.imagenet_stem)
        self.stages = nn.Sequential()
        for stage, num_units in enumerate(options.units_per_stage):
            blocks = nn.Sequential()
            for index in range(num_units):
                channels, survival = next(units)
                c_out = channels * (EXPANSION if bottleneck else 1)
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(PyramidUnit(c_in, c_out, stride, bottleneck, survival))
                c_in = c_out
            self.stages.append(blocks)
        self.norm = nn.BatchNorm2d(c_in)
        self.head = nn.Linear(c_in, data.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (N, stem_channels, H, W)
        x = self.stages(x)  # (N, channels, H/4, W/4)
        x = F.relu(self.norm(x), inplace=True)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (N, channels)
        logits: Tensor = self.head(x)  # (N, num_classes)
        return logits
