"""Layers that several model families share, and their initialisation."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_CHANNELS = 16
"""In a block of oneDNN's, at most."""


def conv3x3(c_in: int, c_out: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """3x3 convolution without bias: (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)."""
    return nn.Conv2d(c_in, c_out, kernel_size=3, stride=stride, padding=1, groups=groups, bias=False)


def conv1x1(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    """1x1 convolution without bias: (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)."""
    narrow = stride > 1 and c_in < MIN_CHANNELS
    return (SubsampledConv if narrow else nn.Conv2d)(c_in, c_out, kernel_size=1, stride=stride, bias=False)


class SubsampledConv(nn.Conv2d):
    """A strided 1x1 convolution that first takes the pixels it looks at, which is the same.

    oneDNN's own, on CPU and channels last, writes past its memory where a block of channels is not full
    (github.com/uxlfoundation/oneDNN/issues/6035): the gradient is wrong, or the process dies.
    """

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight)


def conv7x7(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    """7x7 convolution without bias: (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)."""
    return nn.Conv2d(c_in, c_out, kernel_size=7, stride=stride, padding=3, bias=False)


def dropout_layer(probability: float) -> list[nn.Module]:
    """Return dropout as a list to splice into layers, empty where nothing would be dropped."""
    return [nn.Dropout(probability)] if probability else []


class _Rescale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, forward_factor: Tensor, backward_factor: Tensor) -> Tensor:
        ctx.save_for_backward(backward_factor)
        return x * forward_factor.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (backward_factor,) = ctx.saved_tensors
        return grads[0] * backward_factor.to(grads[0].dtype), None, None


def rescale(x: Tensor, forward_factor: Tensor, backward_factor: Tensor) -> Tensor:
    """Multiply activations by one factor and, in the backward pass, their gradient by another.

    Args:
        x: activations, (N, C, H, W).
        forward_factor: broadcast against `x` and brought to its dtype.
        backward_factor: stands in for `forward_factor` in the gradient; gets none itself.
    """
    rescaled: Tensor = _Rescale.apply(x, forward_factor, backward_factor)
    return rescaled


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
