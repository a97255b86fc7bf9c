"""Layers that several model families share, and their initialisation."""

from __future__ import annotations

from typing import Literal

from torch import nn


def conv3x3(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution without bias: (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)."""
    return nn.Conv2d(c_in, c_out, kernel_size=3, stride=stride, padding=1, bias=False)


def conv1x1(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    """1x1 convolution without bias: (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)."""
    return nn.Conv2d(c_in, c_out, kernel_size=1, stride=stride, bias=False)


def initialise(module: nn.Module, mode: Literal["fan_out", "fan_in"]) -> None:
    """Draw a network's weights: Kaiming normal with ReLU gain (He et al., arXiv:1502.01852).

    Convolutions and linear layers are drawn, batch normalisations start as the identity, biases
    as zero. The numbers come from torch's default generator, which the caller seeds.

    Args:
        module: the network, changed in place.
        mode: whether variance is kept forward (fan_in) or backward (fan_out).
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
