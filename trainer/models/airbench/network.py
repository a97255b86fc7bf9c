"""The network of `trainer.models.airbench`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import conv3x3, reset_parameters
from trainer.models._whitening import whitening_filters
from trainer.models.airbench import PATCH

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.airbench import AirbenchOptions

ACTIVATIONS = {"gelu": nn.GELU, "silu": nn.SiLU}


class Group(nn.Module):
    """Conv, max-pool, BN, activation, then one or two further convs, over which there may be a shortcut."""

    def __init__(self, c_in: int, c_out: int, options: AirbenchOptions) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[options.activation]()
        self.first = nn.Sequential(
            conv3x3(c_in, c_out), nn.MaxPool2d(2), norm(c_out, options), self.activation
        )
        self.rest = nn.Sequential(conv3x3(c_out, c_out), norm(c_out, options))
        for _ in range(options.convs_per_group - 2):
            self.rest.extend([self.activation, conv3x3(c_out, c_out), norm(c_out, options)])
        self.residual = options.residual

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/2, W/2)
        x = self.first(x)
        y = self.rest(x)
        activated: Tensor = self.activation(x + y if self.residual else y)
        return activated


def norm(channels: int, options: AirbenchOptions) -> nn.BatchNorm2d:
    """Return batch normalisation whose scale stays 1."""
    layer = nn.BatchNorm2d(channels, eps=options.bn_eps, momentum=options.bn_momentum)
    layer.weight.requires_grad_(False)
    return layer


class Network(nn.Module):
    """Whitening convolution, GELU, groups, max-pool over the whole map, linear layer, scale."""

    def __init__(self, options: AirbenchOptions, data: DataSpec) -> None:
        super().__init__()
        self.options = options
        self.images_to_prepare = options.whitening_images if options.whitening else 0
        c_in = 2 * data.channels * PATCH**2
        bias = options.whitening_bias != "none"
        self.whitening = nn.Conv2d(data.channels, c_in, PATCH, bias=bias)
        self.whitening.weight.requires_grad_(not options.whitening)
        self.groups = nn.Sequential()
        for width in options.widths:
            self.groups.append(Group(c_in, width, options))
            c_in = width
        self.pool = nn.MaxPool2d(options.last_side(data))
        self.head = nn.Linear(c_in, data.num_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W) -> (N, num_classes)
        x = self.groups(F.gelu(self.whitening(x)))  # (N, widths[-1], (H - 1)/8, (W - 1)/8)
        logits: Tensor = self.head(self.pool(x).flatten(1))
        return logits * self.options.output_scale

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw the first weights, from torch's default generator."""
        options = self.options
        reset_parameters(self)
        if options.whitening_bias == "zero" and self.whitening.bias is not None:
            nn.init.zeros_(self.whitening.bias)
        for layer in self.groups.modules():
            if options.dirac and isinstance(layer, nn.Conv2d):
                nn.init.dirac_(layer.weight[: layer.in_channels])
        if options.head_std is not None:
            self.head.weight *= options.head_std / self.head.weight.std()

    @torch.no_grad()
    def prepare(self, images: Tensor) -> None:
        """Set the whitening filters, each with its negative, from normalised images (N, C, H, W).

        Call it before the first step, with the first `images_to_prepare` images, unless that is 0.
        """
        filters = whitening_filters(images, PATCH, self.options.whitening_eps)
        self.whitening.weight.copy_(torch.cat([filters, -filters]))
