"""The network of `trainer.models.resnet9`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import conv1x1, conv3x3, max_and_mean, reset_parameters
from trainer.models._whitening import whitening_filters
from trainer.models.resnet9 import PATCH

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.resnet9 import ResNet9Options


class GhostBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of each of several groups of a batch (Hoffer et al., arXiv:1705.08741).

    Image i is in group i mod `groups`. The groups share scale and offset, and each has its own running
    statistics, in buffers of (groups x channels,). Evaluation uses their means over the groups, so it also
    takes batches that cannot be divided.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels)
        self.groups = groups
        self.running_mean = torch.zeros(groups * channels)
        self.running_var = torch.ones(groups * channels)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W) -> the same
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        scale, offset = self.weight, self.bias
        if not self.training:
            mean, var = (s.view(self.groups, -1).mean(0) for s in (self.running_mean, self.running_var))
            return F.batch_norm(x, mean, var, scale, offset, eps=self.eps)
        n, channels, height, width = x.shape
        if n % self.groups:
            raise ValueError(f"a batch of {n} images cannot be divided into {self.groups} ghost groups")
        self.num_batches_tracked += 1
        # `groups` images in a row become the channels of one; if channels are last in memory, this copies
        stacked = x.reshape(n // self.groups, self.groups * channels, height, width)
        normalised = F.batch_norm(
            stacked,
            self.running_mean,
            self.running_var,
            scale.repeat(self.groups),
            offset.repeat(self.groups),
            training=True,
            momentum=self.momentum or 0.0,
            eps=self.eps,
        )
        return normalised.reshape(x.shape)


class Residual(nn.Module):
    """Add two conv blocks to their input. Nothing follows the sum."""

    def __init__(self, channels: int, options: ResNet9Options) -> None:
        super().__init__()
        convs = [conv3x3(channels, channels) for _ in range(2)]
        self.residual = nn.Sequential(*(conv_block(conv, options) for conv in convs))

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W) -> the same
        residual: Tensor = self.residual(x)
        return x + residual


def conv_block(conv: nn.Conv2d, options: ResNet9Options, *, pool: bool = False) -> nn.Sequential:
    """Return conv, BN and activation, with a 2x2 max-pool if `pool`."""
    channels, groups = conv.out_channels, options.ghost_groups
    norm = nn.BatchNorm2d(channels) if groups == 1 else GhostBatchNorm2d(channels, groups)
    norm.weight.requires_grad_(not options.frozen_bn_scale)
    activation = nn.ReLU(inplace=True) if options.activation == "relu" else nn.CELU(options.celu_alpha)
    layers: list[nn.Module] = [norm, activation]
    if pool:
        place = ["before_norm", "before_activation", "after_activation"].index(options.pool)
        layers.insert(place, nn.MaxPool2d(2))
    return nn.Sequential(conv, *layers)


class Network(nn.Module):
    """First block, layers, pool over the whole map, linear layer, scale."""

    def __init__(self, options: ResNet9Options, data: DataSpec) -> None:
        super().__init__()
        self.options = options
        self.images_to_prepare = options.whitening_images if options.whitening else 0
        first, *widths = options.widths
        patch = data.channels * PATCH**2
        self.whitening = conv3x3(data.channels, patch).requires_grad_(False) if options.whitening else None
        conv = conv1x1(patch, first) if options.whitening else conv3x3(data.channels, first)
        self.first = conv_block(conv, options)
        self.layers = nn.Sequential()
        pool = options.downsampling == "max_pool"
        for c_in, c_out, end in zip(options.widths, widths, options.layer_ends, strict=False):
            kind = conv1x1 if options.downsampling == "strided_1x1" else conv3x3
            self.layers.append(conv_block(kind(c_in, c_out, 1 if pool else 2), options, pool=pool))
            if end == "residual":
                self.layers.append(Residual(c_out, options))
            elif end == "conv":
                self.layers.append(conv_block(conv3x3(c_out, c_out), options))
        self.pool = nn.MaxPool2d(options.last_side(data))
        self.head = nn.Linear(options.head_channels, data.num_classes, bias=options.head_bias)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W) -> (N, num_classes)
        if self.whitening is not None:
            x = self.whitening(x)
        x = self.layers(self.first(x))  # (N, widths[-1], H/8, W/8)
        maxima_alone = self.options.global_pool == "max"
        logits: Tensor = self.head(self.pool(x).flatten(1) if maxima_alone else max_and_mean(x))
        return logits * self.options.output_scale

    def initialise(self) -> None:
        """Draw the first weights, from torch's default generator."""
        reset_parameters(self)

    @torch.no_grad()
    def prepare(self, images: Tensor) -> None:
        """Set the whitening filters from normalised images (N, C, H, W).

        Call it before the first step, with the first `images_to_prepare` images, unless that is 0.
        """
        assert self.whitening is not None
        self.whitening.weight.copy_(whitening_filters(images, PATCH, self.options.whitening_eps))
