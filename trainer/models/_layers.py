"""Layers that several model families share, and their initialisation."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_CHANNELS = 16
"""Largest block of channels in oneDNN."""


def conv3x3(c_in: int, c_out: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """3x3 convolution without bias: (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)."""
    return nn.Conv2d(c_in, c_out, kernel_size=3, stride=stride, padding=1, groups=groups, bias=False)


def conv1x1(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    """1x1 convolution without bias: (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)."""
    narrow = stride > 1 and c_in < MIN_CHANNELS
    return (SubsampledConv if narrow else nn.Conv2d)(c_in, c_out, kernel_size=1, stride=stride, bias=False)


class SubsampledConv(nn.Conv2d):
    """A strided 1x1 convolution that first selects the pixels that it uses. The result is the same.

    It avoids a bug of oneDNN on CPUs (github.com/uxlfoundation/oneDNN/issues/6035): with channels last, it
    writes outside its memory if a block of channels is not full, and the gradient is wrong or the process
    dies.
    """

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight)


def conv7x7(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    """7x7 convolution without bias: (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)."""
    return nn.Conv2d(c_in, c_out, kernel_size=7, stride=stride, padding=3, bias=False)


def dropout_layer(probability: float) -> list[nn.Module]:
    """Return dropout as a list to insert into layers; empty if the probability is 0."""
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
    """Multiply activations by one factor, and their gradient by another in the backward pass.

    Args:
        x: activations, (N, C, H, W).
        forward_factor: broadcast against `x` and converted to its dtype.
        backward_factor: used in place of `forward_factor` in the gradient. Gets no gradient itself.
    """
    rescaled: Tensor = _Rescale.apply(x, forward_factor, backward_factor)
    return rescaled


def initialise(module: nn.Module, mode: Literal["fan_out", "fan_in"]) -> None:
    """Draw a network's weights: Kaiming normal with ReLU gain (He et al., arXiv:1502.01852).

    Only convolutions and linear layers are drawn. Batch normalisation starts as the identity, biases as
    zero. The numbers come from torch's default generator, which the caller seeds.

    Args:
        module: the network, changed in place.
        mode: keep the variance in the forward pass (fan_in) or in the backward pass (fan_out).
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
