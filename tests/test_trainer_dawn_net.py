"""The DAWN net and the steps from it to ResNet-9: each network against one written out by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer import TrainConfig
from trainer.datasets import DataSpec, datasets
from trainer.models._layers import initialise
from trainer.models.count import count_macs, count_params, on_meta
from trainer.models.dawn_net import DawnNetOptions
from trainer.models.resnet9 import ResNet9Options
from trainer.schema import ConfigError

CIFAR10 = datasets.get("cifar10")().spec
WIDTHS: Any = (4, 6, 8, 8)
NONE: Any = ("none", "none", "none")
BACKBONE: dict[str, Any] = {
    "widths": WIDTHS,
    "layer_ends": NONE,
    "global_pool": "max_and_mean",
    "head_bias": True,
    "output_scale": 1.0,
}


def spec(image_size: int, channels: int = 3, num_classes: int = 10) -> DataSpec:
    return DataSpec(
        num_classes=num_classes,
        channels=channels,
        image_size=image_size,
        num_train=1,
        num_test=1,
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
    )


def bn(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    normalised = (x - mean.view(1, -1, 1, 1)) / (var.view(1, -1, 1, 1) + 1e-5).sqrt()
    return normalised * scale.view(1, -1, 1, 1) + offset.view(1, -1, 1, 1)


def both_pools(x: Tensor) -> Tensor:
    n, channels, _, _ = x.shape
    flat = x.reshape(n, channels, -1)
    return torch.cat([flat.max(2).values, flat.mean(2)], dim=1)


def dawn_net(x: Tensor, parameters: Iterator[Tensor], widths: Any, branches: bool) -> Tensor:
    """The network as the series describes it: the skip starts after BN and ReLU."""
    x = F.conv2d(x, next(parameters), padding=1)
    for layer, width in enumerate(widths):
        for number in range(2):
            stride = 2 if layer > 0 and number == 0 else 1
            x = bn(x, next(parameters), next(parameters)).relu()
            branch: Tensor | float = 0.0
            if branches:
                y = F.conv2d(x, next(parameters), stride=stride, padding=1)
                y = bn(y, next(parameters), next(parameters)).relu()
                branch = F.conv2d(y, next(parameters), padding=1)
            same = stride == 1 and x.shape[1] == width
            x = (x if same else F.conv2d(x, next(parameters), stride=stride)) + branch
    weight, offset = parameters
    return both_pools(x) @ weight.T + offset


def steps_net(x: Tensor, parameters: Iterator[Tensor], options: ResNet9Options) -> Tensor:
    """A network of the steps from the backbone to ResNet-9."""

    def conv_bn_relu(x: Tensor, stride: int = 1) -> Tensor:
        weight = next(parameters)
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        return bn(x, next(parameters), next(parameters)).relu()

    x = conv_bn_relu(x)
    for end in options.layer_ends:
        pools = options.downsampling == "max_pool"
        x = F.max_pool2d(conv_bn_relu(x), 2) if pools else conv_bn_relu(x, 2)
        if end == "conv":
            x = conv_bn_relu(x)
        elif end == "residual":
            x = x + conv_bn_relu(conv_bn_relu(x))
    pooled = x.amax((2, 3)) if options.global_pool == "max" else both_pools(x)
    logits = pooled @ next(parameters).T
    logits = logits + next(parameters) if options.head_bias else logits
    return logits * options.output_scale


def assert_same(options: Any, by_hand: Callable[[Tensor, Iterator[Tensor]], Tensor]) -> None:
    torch.manual_seed(0)
    network = options.build(spec(16)).double()
    parameters = list(network.parameters())
    for parameter in parameters:
        nn.init.normal_(parameter, 0.2 if parameter.dim() == 1 else 0, 0.4)
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    found, expected = network(x), by_hand(x, iter(parameters))
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, dtype=torch.float64)
    gradients = [torch.autograd.grad((each * weights).sum(), parameters) for each in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("branches", [True, False])
def test_the_dawn_net_by_hand(branches: bool) -> None:
    options = DawnNetOptions(widths=WIDTHS, branches=branches)
    assert_same(options, lambda x, parameters: dawn_net(x, parameters, WIDTHS, branches))


STEPS = {
    "repeated BN-ReLU removed": BACKBONE | {"downsampling": "strided_1x1"},
    "3x3 convolutions": BACKBONE | {"downsampling": "strided_3x3"},
    "max pool": BACKBONE,
    "global max pool": BACKBONE | {"global_pool": "max"},
    "classifier x 0.125": {"widths": WIDTHS, "layer_ends": NONE},
    "extra convolutions": {"widths": WIDTHS, "layer_ends": ("conv", "conv", "conv")},
    "residuals": {"widths": WIDTHS},
}


@pytest.mark.parametrize("step", STEPS)
def test_each_step_by_hand(step: str) -> None:
    options = ResNet9Options(**STEPS[step])
    assert_same(options, lambda x, parameters: steps_net(x, parameters, options))


def test_the_backbone_without_repeats_has_half_the_norms() -> None:
    parameters = count_params(on_meta(DawnNetOptions(branches=False), CIFAR10))
    without = ResNet9Options(
        widths=(64, 128, 256, 256),
        layer_ends=NONE,
        downsampling="strided_1x1",
        global_pool="max_and_mean",
        head_bias=True,
    )
    # the eight norms have 64, 64, 64, 128, 128, 256, 256, 256 channels; four are left, of 64, 128, 256, 256
    assert parameters - count_params(on_meta(without, CIFAR10)) == 2 * (1216 - 704)


@pytest.mark.parametrize("image_size", [8, 32, 45])
@pytest.mark.parametrize(
    "options",
    [
        DawnNetOptions(),
        DawnNetOptions(branches=False),
        *(ResNet9Options(**values) for values in STEPS.values()),
    ],
    ids=lambda options: options.label,
)
def test_macs_without_torch(options: Any, image_size: int) -> None:
    data = spec(image_size, channels=1, num_classes=7)
    assert options.macs(data) == count_macs(on_meta(options, data), data)


def test_sizes() -> None:
    convs = 27 * 64 + 9 * (4 * 64 * 64 + 64 * 128 + 3 * 128 * 128 + 128 * 256 + 7 * 256 * 256)
    projections = 64 * 128 + 128 * 256 + 256 * 256
    norms = 2 * (1216 + 2 * (64 + 128 + 256 + 256))
    assert count_params(on_meta(DawnNetOptions(), CIFAR10)) == convs + projections + norms + 512 * 10 + 10
    assert count_params(on_meta(ResNet9Options(), CIFAR10)) == 6_568_640 + 4_480


def test_weights_start_as_torch_draws_them() -> None:
    torch.manual_seed(0)
    network = DawnNetOptions().build(CIFAR10)
    initialise(network, "fan_out", "uniform")
    conv, head = network.stem, network.head
    assert conv.weight.abs().max().item() == pytest.approx(
        27**-0.5, rel=0.01
    )  # uniform in +-1 / sqrt(inputs)
    assert head.bias.any()
    scales = torch.cat([layer.weight for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)])
    assert 0 <= scales.min() < 0.01
    assert 0.99 < scales.max() <= 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"downsampling": "strided_3x3", "pool": "before_norm"}, "pool: is for downsampling: max_pool only"),
        ({"widths": (4, 0, 4, 4)}, r"widths: must be > 0"),
    ],
)
def test_what_is_refused(options: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        ResNet9Options(**options)


def test_labels_say_what_is_unusual() -> None:
    assert DawnNetOptions().label == "DAWN net"
    assert DawnNetOptions(branches=False).label == "DAWN net, shortcuts alone"
    assert ResNet9Options().label == "ResNet-9"
    assert ResNet9Options(layer_ends=("conv", "conv", "conv")).label == (
        "ResNet-9, layers end in conv/conv/conv"
    )
    step = ResNet9Options(layer_ends=NONE, downsampling="strided_1x1", head_bias=True, output_scale=1)
    said = "ResNet-9, layers end in none/none/none, 1x1 convs of stride 2, head bias, output scale 1"
    assert step.label == said


def test_one_image_of_8_pixels_cannot_be_normalised() -> None:
    values = {"model": "dawn_net", "epochs": 1, "batch_size": 2}
    assert TrainConfig.from_dict(values)
    with pytest.raises(ConfigError, match="batch_size: must be 2 or more for images this small"):
        TrainConfig.from_dict(values | {"batch_size": 1})
