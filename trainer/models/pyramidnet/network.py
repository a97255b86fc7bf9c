"""The network of `trainer.models.pyramidnet`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import StagedNetwork, conv3x3, conv7x7, rescale, residual_convs, stacked

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models._residual import BlockType
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

    def __init__(
        self, c_in: int, c_out: int, stride: int, unit_type: BlockType, survival: float | None
    ) -> None:
        super().__init__()
        convs = residual_convs(unit_type, c_in, c_out, stride)
        self.residual = nn.Sequential(nn.BatchNorm2d(c_in), *convs, nn.BatchNorm2d(c_out))
        if survival is not None:
            self.residual.append(ShakeDrop(survival))
        self.new_channels = c_out - c_in
        self.pool = nn.Identity() if stride == 1 else nn.AvgPool2d(stride, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        residual: Tensor = self.residual(x)
        return residual + F.pad(self.pool(x), (0, 0, 0, 0, 0, self.new_channels))


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


class Network(StagedNetwork):
    """A PyramidNet, with three stages, or four for ImageNet."""

    def __init__(self, options: PyramidOptions, data: DataSpec) -> None:
        survivals = iter(options.survival_probabilities)
        first = stem(data.channels, options.stem_channels, options.imagenet_stem)
        stages = stacked(
            [PyramidUnit(*shape, options.unit_type, next(survivals)) for shape in stage]
            for stage in options.stages
        )
        super().__init__(first, stages, options.widths[-1][-1], data.num_classes, last_norm=True)
