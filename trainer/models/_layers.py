"""Layers that several model families share, and their initialisation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.models._residual import EXPANSION, BlockType, BottleneckStride

MIN_CHANNELS = 16
"""Largest block of channels in oneDNN."""


def conv3x3(c_in: int, c_out: int, stride: int = 1, groups: int = 1, *, bias: bool = False) -> nn.Conv2d:
    """3x3 convolution: (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)."""
    return nn.Conv2d(c_in, c_out, kernel_size=3, stride=stride, padding=1, groups=groups, bias=bias)


def conv1x1(c_in: int, c_out: int, stride: int = 1, *, bias: bool = False) -> nn.Conv2d:
    """1x1 convolution: (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)."""
    narrow = stride > 1 and c_in < MIN_CHANNELS
    return (SubsampledConv if narrow else nn.Conv2d)(c_in, c_out, kernel_size=1, stride=stride, bias=bias)


class SubsampledConv(nn.Conv2d):
    """A strided 1x1 convolution that first selects the pixels that it uses. The result is the same.

    It avoids a bug of oneDNN on CPUs (github.com/uxlfoundation/oneDNN/issues/6035): with channels last, it
    writes outside its memory if a block of channels is not full, and the gradient is wrong or the process
    dies.
    """

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias)


def conv7x7(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    """7x7 convolution without bias: (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)."""
    return nn.Conv2d(c_in, c_out, kernel_size=7, stride=stride, padding=3, bias=False)


def dropout_layer(probability: float) -> list[nn.Module]:
    """Return dropout as a list to insert into layers; empty if the probability is 0."""
    return [nn.Dropout(probability)] if probability else []


def basic_convs(
    c_in: int, c_out: int, stride: int, dropout: float = 0.0, *, bias: bool = False
) -> list[nn.Module]:
    """Return two 3x3 convs with BN-ReLU, and dropout if it is not 0, between."""
    first = [conv3x3(c_in, c_out, stride, bias=bias), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
    return [*first, *dropout_layer(dropout), conv3x3(c_out, c_out, bias=bias)]


def bottleneck_convs(
    c_in: int,
    c_inner: int,
    c_out: int,
    stride: int,
    groups: int = 1,
    *,
    stride_in: BottleneckStride = "3x3",
    bias: bool = False,
) -> list[nn.Module]:
    """Return a narrow 3x3 conv between two 1x1 convs, with BN-ReLU between.

    `stride_in` names the conv that has the stride, the first 1x1 conv or the 3x3 conv.
    """
    first, second = (1, stride) if stride_in == "3x3" else (stride, 1)
    return [
        conv1x1(c_in, c_inner, first, bias=bias),
        nn.BatchNorm2d(c_inner),
        nn.ReLU(inplace=True),
        conv3x3(c_inner, c_inner, second, groups, bias=bias),
        nn.BatchNorm2d(c_inner),
        nn.ReLU(inplace=True),
        conv1x1(c_inner, c_out, bias=bias),
    ]


def residual_convs(block_type: BlockType, c_in: int, c_out: int, stride: int) -> list[nn.Module]:
    """Return the convs of a basic or bottleneck block, with BN-ReLU between."""
    if block_type == "basic":
        return basic_convs(c_in, c_out, stride)
    return bottleneck_convs(c_in, c_out // EXPANSION, c_out, stride)


class ParameterFree(nn.Module):
    """A shortcut without parameters: fewer pixels, and more channels, of zeros.

    Args:
        c_in: input channels.
        c_out: output channels, c_in or more.
        stride: side of the square of pixels of which one is left.
        mean: take the mean of these pixels, and put half of the zeros on each side of the channels. False:
            take the first pixel, and put the zeros after (option A of arXiv:1512.03385).
    """

    def __init__(self, c_in: int, c_out: int, stride: int, *, mean: bool = True) -> None:
        super().__init__()
        before = (c_out - c_in) // 2 if mean else 0
        self.channels = before, c_out - c_in - before
        kernel = stride if mean else 1
        self.pool = nn.Identity() if stride == 1 else nn.AvgPool2d(kernel, stride, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        return F.pad(self.pool(x), (0, 0, 0, 0, *self.channels))


def max_and_mean(x: Tensor) -> Tensor:
    """Return the maximum of each channel over the map, then the means: (N, C, H, W) -> (N, 2C)."""
    return torch.cat([F.adaptive_max_pool2d(x, 1), F.adaptive_avg_pool2d(x, 1)], dim=1).flatten(1)


def stacked(stages: Iterable[Iterable[nn.Module]]) -> nn.Sequential:
    """Return stages of blocks as one module."""
    return nn.Sequential(*(nn.Sequential(*blocks) for blocks in stages))


class StagedNetwork(nn.Module):
    """Stem, stages, BN-ReLU if `last_norm`, global average pool, linear layer.

    Args:
        stem: the first layers.
        stages: the layers after it, with `c_out` output channels.
        c_out: see `stages`.
        num_classes: outputs of the linear layer.
        last_norm: add BN-ReLU, which networks with pre-activation blocks need.
    """

    def __init__(
        self, stem: nn.Module, stages: nn.Module, c_out: int, num_classes: int, *, last_norm: bool
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = stages
        self.norm = nn.BatchNorm2d(c_out) if last_norm else None
        self.head = nn.Linear(c_out, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W) -> (N, num_classes)
        x = self.stages(self.stem(x))  # (N, c_out, H/4, W/4); for ImageNet H/32, W/32
        if self.norm:
            x = F.relu(self.norm(x), inplace=True)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (N, c_out)
        logits: Tensor = self.head(x)
        return logits


def last_linear(network: nn.Module) -> tuple[str, nn.Linear]:
    """Return the name and the layer of a network's classifier: its last linear layer."""
    *_, last = ((name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear))
    return last


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
    """Multiply `x`, (N, C, H, W), by one factor, and its gradient by another. Factors are broadcast."""
    rescaled: Tensor = _Rescale.apply(x, forward_factor, backward_factor)
    return rescaled


def initialise(
    module: nn.Module,
    mode: Literal["fan_out", "fan_in"],
    bn_scale: Literal["ones", "normal", "uniform"] = "ones",
    linear: Literal["normal", "uniform"] = "normal",
) -> None:
    """Draw a network's weights: Kaiming normal with ReLU gain (He et al., arXiv:1502.01852).

    Convolutions and linear layers are drawn, and the scales of batch normalisation if `bn_scale` says so.
    Otherwise batch normalisation starts as the identity; biases start as zero. The numbers come from torch's
    default generator, which the caller seeds. `fan_in` keeps the variance in the forward pass, `fan_out` in
    the backward pass. With `linear="uniform"`, the weights of linear layers lie within +-1 / sqrt(outputs)
    instead. A network with a method `initialise` does all but the scales itself.
    """
    if own := getattr(module, "initialise", None):
        own()
    else:
        _draw_kaiming_normal(module, mode, linear)
    for layer in batch_norms(module):
        if bn_scale == "normal":
            nn.init.normal_(layer.weight, mean=1, std=0.002)
        elif bn_scale == "uniform":
            nn.init.uniform_(layer.weight)


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """Return a network's batch normalisation layers."""
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]


def set_bn_momentum(module: nn.Module, momentum: float) -> None:
    """Set the weight of the next batches in the running statistics of all batch normalisation layers."""
    for layer in batch_norms(module):
        layer.momentum = momentum


def _draw_kaiming_normal(
    module: nn.Module, mode: Literal["fan_out", "fan_in"], linear: Literal["normal", "uniform"]
) -> None:
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            if linear == "uniform" and isinstance(layer, nn.Linear):
                limit = layer.out_features**-0.5
                nn.init.uniform_(layer.weight, -limit, limit)
            else:
                nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


def reset_parameters(module: nn.Module) -> None:
    """Draw a network's weights as torch does when it makes a layer, from torch's default generator."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)):
            layer.reset_parameters()
