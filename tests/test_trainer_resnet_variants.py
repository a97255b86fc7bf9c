"""Variants of ResNet blocks: each network against one written out by hand; sizes; what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from trainer.datasets import DataSpec, datasets
from trainer.models._layers import ParameterFree, initialise
from trainer.models.count import count_macs, count_params, on_meta
from trainer.models.resnet import ResNetImageNetOptions, ResNetOptions
from trainer.schema import ConfigError

CIFAR10 = datasets.get("cifar10")().spec


def spec(image_size: int, num_classes: int = 10) -> DataSpec:
    return DataSpec(
        num_classes=num_classes,
        channels=3,
        image_size=image_size,
        num_train=1,
        num_test=1,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )


def built(options: Any, data: DataSpec) -> nn.Module:
    """Return a network in float64 whose parameters are all random."""
    torch.manual_seed(0)
    network = options.build(data).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.1 if parameter.dim() == 1 else 0, 0.3)
    return network


class ByHand:
    """A ResNet of one block per stage, as functions of the parameters, which it takes in their order."""

    def __init__(self, options: Any, parameters: Iterator[Tensor]) -> None:
        self.options, self.parameters = options, parameters
        self.shortcuts = getattr(options, "shortcuts", "conv")
        self.bias = getattr(options, "conv_bias", False)

    def conv(self, x: Tensor, stride: int = 1, bias: bool | None = None) -> Tensor:
        weight = next(self.parameters)
        offset = next(self.parameters) if (self.bias if bias is None else bias) else None
        return F.conv2d(x, weight, offset, stride, padding=weight.shape[-1] // 2)

    def bn(self, x: Tensor) -> Tensor:
        scale, offset = next(self.parameters), next(self.parameters)
        mean = x.mean((0, 2, 3), keepdim=True)
        var = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
        normalised = (x - mean) / (var + 1e-5).sqrt()
        return normalised * scale.view(1, -1, 1, 1) + offset.view(1, -1, 1, 1)

    def block(self, x: Tensor, c_out: int, stride: int) -> Tensor:
        options, same = self.options, x.shape[1] == c_out and stride == 1
        if options.block_type == "basic":
            y = self.conv(self.bn(self.conv(x, stride)).relu())
        else:
            first, second = (stride, 1) if options.stride_in == "1x1" else (1, stride)
            y = self.bn(self.conv(x, first)).relu()
            y = self.conv(self.bn(self.conv(y, second)).relu())
        if options.last_bn == "before_add":
            y = self.bn(y)
        if same:
            y = y + x
        elif self.shortcuts == "zero_padding":
            padded = torch.zeros_like(y)
            padded[:, : x.shape[1]] = x[:, :, ::stride, ::stride]
            y = y + padded
        else:
            y = y + self.bn(self.conv(x, stride))
        if options.last_bn == "after_add":
            y = self.bn(y)
        return y.relu() if options.last_relu else y

    def logits(self, x: Tensor) -> Tensor:
        if self.options.imagenet_stem:
            x = F.max_pool2d(self.bn(self.conv(x, 2)).relu(), 3, 2, 1)
        else:
            x = self.bn(self.conv(x)).relu()
        for stage, widths in enumerate(self.options.widths):
            for number, width in enumerate(widths):
                x = self.block(x, width, 2 if stage > 0 and number == 0 else 1)
        weight, offset = self.parameters
        return x.mean((2, 3)) @ weight.T + offset


BOTTLENECK: dict[str, Any] = {"depth": 11, "block_type": "bottleneck", "initial_channels": 4}
VARIANTS = [
    ResNetOptions(depth=8, initial_channels=4),
    ResNetOptions(depth=8, initial_channels=4, shortcuts="zero_padding", conv_bias=True),
    ResNetOptions(depth=8, initial_channels=4, shortcuts="zero_padding", last_relu=False),
    ResNetOptions(depth=8, initial_channels=4, shortcuts="zero_padding", last_bn="after_add"),
    ResNetOptions(depth=8, initial_channels=4, last_bn="after_add", last_relu=False, conv_bias=True),
    ResNetOptions(**BOTTLENECK, stride_in="1x1"),
    ResNetOptions(**BOTTLENECK, shortcuts="zero_padding", last_bn="after_add", conv_bias=True),
]


def assert_same(options: Any, size: int, channels_last: bool) -> None:
    network = built(options, spec(size))
    torch.manual_seed(1)
    x = torch.randn(3, 3, size, size, dtype=torch.float64)
    if channels_last:
        network, x = network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    parameters = list(network.parameters())
    ours, by_hand = network(x), ByHand(options, iter(parameters)).logits(x)
    torch.testing.assert_close(ours, by_hand)
    weights = torch.randn(ours.shape, dtype=torch.float64)
    found, expected = (torch.autograd.grad((each * weights).sum(), parameters) for each in (ours, by_hand))
    for gradient, by_hand_gradient in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, by_hand_gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: options.label)
def test_logits_and_gradients_are_those_worked_out_by_hand(options: Any, channels_last: bool) -> None:
    assert_same(options, 9, channels_last)


@pytest.mark.parametrize(
    "options",
    [ResNetImageNetOptions(), ResNetImageNetOptions(last_bn="after_add", last_relu=False)],
    ids=lambda options: options.label,
)
def test_the_form_for_imagenet_too(options: Any) -> None:
    assert_same(options, 64, channels_last=False)


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_the_form_for_imagenet_is_torchvision_s(depth: int) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.get_model(f"resnet{depth}")
    ours = on_meta(ResNetImageNetOptions(depth=depth), spec(224, 1000))
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    data = spec(224, 1000)
    assert ResNetImageNetOptions(depth=depth).macs(data) == count_macs(ours, data) == count_macs(theirs, data)


def test_the_form_for_imagenet_computes_what_torchvision_s_does() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50(num_classes=10).eval()
    ours = ResNetImageNetOptions(depth=50).build(spec(64)).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("options", "side"),
    [
        (ResNetOptions(**BOTTLENECK, stride_in="1x1"), 32),
        (ResNetImageNetOptions(depth=50, stride_in="1x1"), 97),
    ],
)
def test_a_stride_in_the_1x1_conv_saves_macs(options: Any, side: int) -> None:
    data = spec(side)
    assert options.macs(data) == count_macs(on_meta(options, data), data)
    usual = type(options)(**({"depth": 50} if options.imagenet_stem else BOTTLENECK))
    assert options.macs(data) < usual.macs(data)


def test_option_a_has_no_parameters() -> None:
    """0.27 million parameters (arXiv:1512.03385, table 6)."""
    plain = ResNetOptions(depth=20, shortcuts="zero_padding")
    assert count_params(on_meta(plain, CIFAR10)) == 269_722
    biased = ResNetOptions(depth=20, shortcuts="zero_padding", conv_bias=True)
    assert count_params(on_meta(biased, CIFAR10)) == 269_722 + 7 * 16 + 6 * 32 + 6 * 64
    assert plain.macs(CIFAR10) == count_macs(on_meta(plain, CIFAR10), CIFAR10) == 40_551_040


def test_resnet_1202() -> None:
    """19.4 million parameters (arXiv:1512.03385, table 6)."""
    deep = ResNetOptions(depth=1202, shortcuts="zero_padding")
    assert count_params(on_meta(deep, CIFAR10)) == 19_421_274


def test_every_second_pixel_and_zeros_after() -> None:
    x = torch.arange(2 * 2 * 5 * 5.0).view(2, 2, 5, 5)
    y = ParameterFree(2, 5, 2, mean=False)(x)
    assert y.shape == (2, 5, 3, 3)
    assert torch.equal(y[:, :2], x[:, :, ::2, ::2])
    assert not y[:, 2:].any()


@pytest.mark.parametrize("kind", [ResNetOptions, ResNetImageNetOptions])
def test_basic_blocks_have_no_1x1_conv_to_stride(kind: Any) -> None:
    with pytest.raises(ConfigError, match="stride_in: is for bottleneck blocks only"):
        kind(depth=20 if kind is ResNetOptions else 18, stride_in="1x1")


def test_labels_say_what_is_unusual() -> None:
    said = "ResNet-20, zero-padding shortcuts, BN after add, w/o last ReLU, conv bias"
    options = ResNetOptions(
        depth=20, shortcuts="zero_padding", last_bn="after_add", last_relu=False, conv_bias=True
    )
    assert options.label == said
    assert ResNetOptions(depth=20).label == "ResNet-20"
    assert ResNetImageNetOptions(depth=50, stride_in="1x1").label == "ResNet-50, ImageNet, stride in 1x1 conv"


@pytest.mark.parametrize(("how", "lowest", "highest"), [("normal", 0.99, 1.01), ("uniform", 0, 1)])
def test_first_scales_of_batch_normalisation(how: Any, lowest: float, highest: float) -> None:
    torch.manual_seed(0)
    network = ResNetOptions(depth=20).build(CIFAR10)
    initialise(network, "fan_in", how)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    scales = torch.cat([layer.weight.detach() for layer in norms])
    assert lowest <= scales.min() < scales.max() <= highest
    assert scales.std() == pytest.approx(0.002 if how == "normal" else 12**-0.5, rel=0.1)
    assert all(not layer.bias.any() for layer in norms)
