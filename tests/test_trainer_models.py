"""Model families: published sizes, shapes, gradients, options."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from any_config import NARROW
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainer import TrainConfig
from trainer.datasets import DataSpec, datasets
from trainer.models import ModelOptions, models
from trainer.models._layers import bottleneck_convs, conv1x1, conv3x3, initialise, residual_convs
from trainer.models.count import count_macs, count_params
from trainer.models.densenet import DenseNetOptions
from trainer.models.densenet.network import DenseLayer
from trainer.models.pyramidnet import PyramidNetImageNetOptions, PyramidNetOptions
from trainer.models.pyramidnet.network import PyramidUnit
from trainer.models.resnet import ResNetOptions
from trainer.models.resnet.network import ResidualBlock
from trainer.models.resnet_preact import ResNetPreactImageNetOptions, ResNetPreactOptions
from trainer.models.resnet_preact.network import PreactBlock
from trainer.models.resnext import ResNeXtOptions
from trainer.models.se_resnet_preact import SEResNetPreactOptions
from trainer.models.se_resnet_preact.network import SqueezeExcitation
from trainer.models.shake_shake import ShakeShakeOptions
from trainer.models.shake_shake.network import HalvesShortcut, ShakeBlock
from trainer.models.torchvision_models import LABELS, TorchvisionOptions
from trainer.models.vgg import VGGOptions
from trainer.models.wrn import WRNOptions
from trainer.models.wrn.network import WideBlock
from trainer.schema import ConfigError, canonical, read, read_options

# trainable parameters, and multiply-accumulates of conv and linear layers for one image
ZOO = json.loads((Path(__file__).parent / "zoo.json").read_text())
SMALL = [entry for entry in ZOO if entry["type"] == "cifar"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """For layers this small more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def spec(image_size: int = 32, channels: int = 3, num_classes: int = 10) -> DataSpec:
    return DataSpec(
        num_classes=num_classes,
        channels=channels,
        image_size=image_size,
        num_train=1,
        num_test=1,
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
    )


def meta(options, data: DataSpec) -> nn.Module:
    with torch.device("meta"):
        return options.build(data)


def narrow(family: str) -> ModelOptions:
    return read_options(models, {"name": family, **NARROW.get(family, {})}, "model")


def refusal(options: ModelOptions, data: DataSpec) -> str:
    """Return why the family cannot take such images, "" if it can."""
    try:
        options.check(data)
    except ConfigError as error:
        return str(error)  # no key before it: the model as a whole is at fault
    return ""


# --- published sizes ---------------------------------------------------------------------------


@pytest.mark.parametrize("entry", SMALL, ids=lambda entry: entry["label"])
def test_published_params_and_macs(entry):
    options = {"name": entry["family"], **entry["options"]}
    if options.get("block_type") == "bottleneck" and entry["family"].startswith("resnet"):
        options["widen_first_stage"] = False  # as counted there
    data = spec(entry["image_size"], entry["in_channels"], entry["n_classes"])
    model = meta(read_options(models, options, "model"), data)
    assert count_params(model) == entry["params"]
    assert count_macs(model, data) == entry["macs"]
    assert read_options(models, options, "model").macs(data) == entry["macs"], "counted without torch"


@pytest.mark.parametrize("family", sorted(set(NARROW) - {"torchvision"}))
@pytest.mark.parametrize("image_size", [32, 45, 64])
def test_macs_without_torch_are_those_of_the_network(family: str, image_size: int) -> None:
    options, data = narrow(family), spec(image_size, channels=1, num_classes=7)
    if not refusal(options, data):
        assert options.macs(data) == count_macs(meta(options, data), data)


@pytest.mark.parametrize("arch", ["resnet18", "vgg11_bn", "densenet121"])
def test_macs_of_torchvisions_networks_are_near(arch: str) -> None:
    options = TorchvisionOptions(arch=arch)
    for image_size, tolerance in ((224, 1e-3), (96, 0.2)):
        data = spec(image_size, num_classes=1000)
        counted = count_macs(meta(options, data), data)
        assert options.macs(data) == pytest.approx(counted, rel=tolerance)


def test_the_resnet_18_of_cifar_10():
    options, data = TorchvisionOptions(arch="resnet18", small_images=True), spec()
    network = meta(options, data)
    assert options.label == "ResNet-18, small images"
    assert count_params(network) == 11_173_962
    assert count_macs(network, data) == 555_422_720
    assert options.macs(data) == pytest.approx(555_422_720, rel=2e-3)
    sides = []
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        stage.register_forward_hook(lambda _, __, maps: sides.append(tuple(maps.shape[1:])))
    network(torch.zeros(1, 3, 32, 32, device="meta"))
    assert sides == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_only_resnets_have_a_form_for_small_images():
    with pytest.raises(ConfigError, match="small_images: is for ResNets only, not vgg11"):
        TorchvisionOptions(arch="vgg11", small_images=True)


IMAGENET = {entry["label"].removeprefix("imagenet "): entry for entry in ZOO if entry["type"] == "imagenet"}


@pytest.mark.parametrize("label", sorted(IMAGENET))
def test_published_params_and_macs_for_imagenet(label):
    options: ModelOptions
    if label == "pyramidnet200 a300":
        options = PyramidNetImageNetOptions(depth=200, alpha=300)
    else:
        options = TorchvisionOptions(arch={"vgg16": "vgg16_bn"}.get(label, label))
    expected = IMAGENET[label]["params"], IMAGENET[label]["macs"]
    if label == "resnet50":  # there the first stage is as narrow as the stem; torchvision widens it
        expected = 25_557_032, 4_089_184_256
    model = meta(options, spec(224, 3, 1000))
    assert (count_params(model), count_macs(model, spec(224, 3, 1000))) == expected


def test_preact_for_imagenet_has_the_convs_of_resnet():
    data = spec(224, 3, 1000)
    model = meta(ResNetPreactImageNetOptions(depth=18), data)
    assert count_macs(model, data) == IMAGENET["resnet18"]["macs"]
    # without the BN of the stem and of the three shortcuts, of 64, 128, 256 and 512 channels; one more
    # at the end; and those at a stage's start are as wide as the stage before
    assert count_params(model) == IMAGENET["resnet18"]["params"] + 2 * (512 - 64 - 896 - (64 + 128 + 256))


@pytest.mark.parametrize(
    ("family", "depth", "params"),
    [("resnet", 164, 1_704_154), ("resnet_preact", 164, 1_703_258), ("resnet_preact", 1001, 10_327_706)],
)
def test_params_of_bottleneck_networks_as_in_the_papers(family, depth, params):
    options = read(models.get(family), {"depth": depth, "block_type": "bottleneck"})
    assert count_params(meta(options, spec())) == params


@pytest.mark.parametrize("size", [9, 64])
@pytest.mark.parametrize("channels", [3, 4, 6])
def test_a_narrow_strided_1x1_conv_has_the_right_gradient(channels, size):
    """Channels last on a CPU it once wrote past its memory."""
    conv = conv1x1(channels, 2 * channels, stride=2).to(memory_format=torch.channels_last)
    x = torch.randn(2, channels, size, size).contiguous(memory_format=torch.channels_last)
    y = conv(x)
    gradient = torch.randn_like(y)
    y.backward(gradient)
    taken = x[:, :, ::2, ::2]
    assert torch.allclose(y, torch.einsum("nchw,oc->nohw", taken, conv.weight[:, :, 0, 0]), atol=1e-5)
    expected = torch.einsum("nchw,nohw->oc", taken, gradient)
    assert conv.weight.grad is not None
    assert torch.allclose(conv.weight.grad[:, :, 0, 0], expected, rtol=1e-3, atol=1e-3)
    assert count_macs(nn.Sequential(conv), spec(9, channels)) == 25 * 2 * channels**2


@pytest.mark.parametrize(
    ("depth", "width", "params"), [(28, 10, 36_220_634), (28, 2, 1_456_858), (40, 2, 2_232_794)]
)
def test_params_of_pbas_wrn(depth, width, params):
    """As arXiv:1905.05393 trains them: the network that it names, and both that its searches may mean."""
    options = WRNOptions(depth=depth, widening_factor=width, shortcuts="parameter_free")
    assert count_params(meta(options, spec())) == params
    assert options.macs(spec()) == count_macs(meta(options, spec()), spec())


@pytest.mark.parametrize(
    ("options", "params"),
    [
        (ShakeShakeOptions(initial_channels=32), 2_923_162),
        (ShakeShakeOptions(initial_channels=96), 26_192_922),
        (ShakeShakeOptions(initial_channels=112), 35_640_442),
        (PyramidNetOptions(depth=272, block_type="bottleneck", alpha=200, shakedrop=True), 26_210_842),
    ],
    ids=lambda value: getattr(value, "label", value),
)
def test_params_of_pbas_other_networks(options, params):
    assert count_params(meta(options, spec())) == params


def test_widths_of_pbas_pyramid():
    widths = PyramidNetOptions(depth=272, block_type="bottleneck", alpha=200).unit_channels
    assert len(widths) == 90
    assert [widths[unit] for unit in (0, 29, 30, 59, 89)] == [18, 83, 85, 149, 216]


def test_parameter_free_shortcuts_add_up():
    """Without its residual branches the network is the sum of its shortcuts."""
    model = WRNOptions(depth=16, widening_factor=2, shortcuts="parameter_free").build(spec(8, 3))
    for block in model.modules():
        if isinstance(block, WideBlock):
            nn.init.zeros_(block.residual[-1].weight)
            nn.init.zeros_(block.norm.weight)  # with the bias at 1: what follows BN-ReLU is 1
            nn.init.ones_(block.norm.bias)
    x = torch.rand(2, 16, 8, 8)
    stem = nn.functional.pad(nn.functional.avg_pool2d(x, 4), (0, 0, 0, 0, 56, 56))
    # the first stage gives x + 1 in its 16 channels, between 8 and 8 of zeros; each later one doubles that
    first = nn.functional.pad(nn.functional.avg_pool2d(x + 1, 4), (0, 0, 0, 0, 56, 56))
    assert torch.allclose(model.stages(x), 4 * first + stem, atol=1e-5)


def test_different_networks_have_different_labels():
    """Each option that makes another network shows."""
    found: dict[str, ModelOptions] = {}
    for family in ("resnet", "resnet_preact", "se_resnet_preact", "wrn"):
        for options in variants(family):
            assert found.setdefault(options.label, options) == options
    for depth in (18, 50, 101, 152, 200):
        assert ResNetPreactImageNetOptions(depth=depth).label not in found
    labels = [TorchvisionOptions(arch=arch).label for arch in LABELS]
    assert len({*labels}) == len(labels)
    assert not {*labels} & found.keys()


def variants(family: str) -> Iterator[ModelOptions]:
    """Yield a family's networks of a few depths with every choice of its flags."""
    preact = {
        "remove_first_relu": [False, True],
        "add_last_bn": [False, True],
        "preact_stage": list(itertools.product([True, False], repeat=3)),
    }
    choices: dict[str, dict[str, list[Any]]] = {
        "resnet": {"depth": [8, 20, 29, 50, 101, 152]},
        "resnet_preact": {"depth": [8, 20, 29, 50, 101, 152], **preact},
        "se_resnet_preact": {"depth": [20, 29], "reduction": [4, 16], **preact},
        "wrn": {"depth": [28, 40], "dropout": [0.0, 0.1, 0.3], "shortcuts": ["conv", "parameter_free"]},
    }
    if family != "wrn":
        choices[family] |= {"block_type": ["basic", "bottleneck"], "widen_first_stage": [True, False]}
    for values in itertools.product(*choices[family].values()):
        with contextlib.suppress(ConfigError):
            yield read(models.get(family), dict(zip(choices[family], values, strict=True)))


def test_count_macs_knows_groups_and_leaves_the_model_as_it_was():
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2),
        nn.BatchNorm2d(8),
        nn.Flatten(),
        nn.Linear(8 * 16, 5),
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert count_macs(model, spec(8, 4)) == 8 * 16 * (2 * 9) + 8 * 16 * 5
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(layer._forward_hooks for layer in model)


# --- every registered model --------------------------------------------------------------------


@pytest.mark.parametrize("family", models.names())
def test_output_shape_and_gradients(family):
    options = narrow(family)
    kinds = [datasets.get("digits")().spec, spec(28, 1), spec(32, 3, 100), spec(64, 3, 7)]
    taken = [data for data in kinds if not refusal(options, data)]
    assert taken
    for data in taken:
        torch.manual_seed(0)
        model = options.build(data)
        initialise(model, "fan_out")
        images = torch.randn(6, data.channels, data.image_size, data.image_size)
        logits = model(images)
        assert logits.shape == (6, data.num_classes)
        nn.functional.cross_entropy(logits, torch.arange(6)).backward()
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue  # frozen, as filters and scales of some families are
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("family", "size"),
    [
        ("airbench", 9),
        ("densenet", 4),
        ("pyramidnet", 1),
        ("pyramidnet_imagenet", 64),
        ("resnet", 1),
        ("resnet9", 8),
        ("resnet_preact", 1),
        ("resnet_preact_imagenet", 64),
        ("resnext", 1),
        ("se_resnet_preact", 1),
        ("shake_shake", 3),
        ("torchvision", 64),
        ("vgg", 32),
        ("wrn", 1),
    ],
)
def test_smallest_images(family, size):
    options = narrow(family)
    data = spec(size)
    assert not refusal(options, data)
    assert torch.isfinite(options.build(data)(torch.randn(4, 3, size, size))).all()
    if size > 1:
        expected = f"{options.label} takes images of {size} px or larger, the data set's have {size - 1} px"
        assert refusal(options, spec(size - 1)) == expected


@pytest.mark.parametrize("size", [9, 11, 27, 33])
@pytest.mark.parametrize(
    "family", ["airbench", "densenet", "pyramidnet", "resnet9", "resnext", "shake_shake", "vgg", "wrn"]
)
def test_odd_images(family, size):
    options = narrow(family)
    if not refusal(options, spec(size)):
        assert options.build(spec(size))(torch.randn(4, 3, size, size)).shape == (4, 10)
    else:
        assert (family, size < 32) == ("vgg", True)


def test_torchvision_models_are_for_colour_images():
    assert refusal(narrow("torchvision"), spec(64, 1)) == (
        "ResNet-18, ImageNet takes images of 3 channels, the data set's have 1"
    )


def test_a_config_names_the_model_that_cannot_take_its_images():
    with pytest.raises(ConfigError, match=r"^model: VGG-like .* 32 px or larger.* have 8 px") as caught:
        TrainConfig.from_dict({"model": "vgg", "dataset": "digits", "epochs": 1})
    assert caught.value.key == "model"


@pytest.mark.parametrize("family", models.names())
def test_options_round_trip(family):
    options = narrow(family)
    assert read_options(models, {"name": family, **canonical(options)}, "model") == options
    assert dataclasses.replace(options) == options
    assert options.label


def test_every_preact_option_round_trips():
    options = ResNetPreactOptions(
        depth=29,
        block_type="bottleneck",
        initial_channels=32,
        widen_first_stage=False,
        remove_first_relu=True,
        add_last_bn=True,
        preact_stage=(True, False, False),
    )
    written = json.loads(json.dumps(canonical(options)))
    assert len(written) == len(dataclasses.fields(options))
    assert read(ResNetPreactOptions, written) == options


@pytest.mark.parametrize(
    ("options", "label"),
    [
        (ResNetOptions(depth=110), "ResNet-110"),
        (ResNetPreactOptions(depth=20), "ResNet-preact-20"),
        (ResNetPreactOptions(depth=164, block_type="bottleneck"), "ResNet-preact-164 bottleneck"),
        (ResNetPreactOptions(depth=20, initial_channels=64), "ResNet-preact-20, widening factor 4"),
        (SEResNetPreactOptions(depth=110), "SE-ResNet-preact-110"),
        (
            ResNetPreactOptions(
                depth=56, remove_first_relu=True, add_last_bn=True, preact_stage=(True, False, False)
            ),
            "ResNet-preact-56 (w/o 1st ReLU, w/ last BN, preact shortcut in stage 1)",
        ),
        (
            ResNetPreactOptions(depth=56, preact_stage=(False, False, False)),
            "ResNet-preact-56 (preact shortcut in no stage)",
        ),
        (
            ResNetPreactOptions(depth=164, block_type="bottleneck", widen_first_stage=False),
            "ResNet-preact-164 bottleneck, narrow first stage",
        ),
        (WRNOptions(shortcuts="parameter_free"), "WRN-28-10, parameter-free shortcuts"),
        (VGGOptions(), "VGG-like (depth 15, w/ BN, channel 64)"),
        (VGGOptions(batch_norm=False), "VGG-like (depth 15, w/o BN, channel 64)"),
        (WRNOptions(), "WRN-28-10"),
        (WRNOptions(dropout=0.3), "WRN-28-10 w/ dropout"),
        (WRNOptions(dropout=0.1), "WRN-28-10 w/ dropout 0.1"),
        (DenseNetOptions(), "DenseNet-100 (k=12)"),
        (DenseNetOptions(growth_rate=24, dropout=0.2), "DenseNet-100 (k=24) w/ dropout"),
        (
            DenseNetOptions(depth=190, block_type="bottleneck", growth_rate=40, compression_rate=0.5),
            "DenseNet-BC-190 (k=40)",
        ),
        (DenseNetOptions(block_type="bottleneck"), "DenseNet-B-100 (k=12)"),
        (DenseNetOptions(compression_rate=0.25), "DenseNet-C-100 (k=12, compression=0.25)"),
        (PyramidNetOptions(), "PyramidNet-110 (alpha=84)"),
        (
            PyramidNetOptions(depth=164, block_type="bottleneck", alpha=270),
            "PyramidNet-164 bottleneck (alpha=270)",
        ),
        (
            PyramidNetOptions(depth=272, block_type="bottleneck", alpha=200, shakedrop=True),
            "PyramidNet-272 bottleneck (alpha=200) w/ ShakeDrop",
        ),
        (PyramidNetImageNetOptions(), "PyramidNet-200 (alpha=300), ImageNet"),
        (ResNetPreactImageNetOptions(), "ResNet-preact-18, ImageNet"),
        (ResNeXtOptions(cardinality=4), "ResNeXt-29 4x64d"),
        (ShakeShakeOptions(), "shake-shake-26 2x32d (S-S-I)"),
        (ShakeShakeOptions(shake_forward=False, shake_image=False), "shake-shake-26 2x32d (E-S-B)"),
        (ShakeShakeOptions(initial_channels=96, shake_backward=False), "shake-shake-26 2x96d (S-E-I)"),
        (
            ShakeShakeOptions(shake_weights="normalised", shortcut_relu=False),
            "shake-shake-26 2x32d (S-S-I), normalised weights, shortcuts before ReLU",
        ),
        (TorchvisionOptions(arch="resnet50"), "ResNet-50, ImageNet"),
        (TorchvisionOptions(arch="vgg16_bn"), "VGG-16 w/ BN, ImageNet"),
        (TorchvisionOptions(arch="resnext101_32x8d"), "ResNeXt-101 32x8d, ImageNet"),
    ],
)
def test_labels_are_as_published(options, label):
    assert options.label == label


def test_describing_models_needs_no_torch():
    code = "import sys; from trainer.models import models; models.names(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "key", "problem"),
    [
        ({"depth": 21}, "depth", "must be 6n + 2 with basic blocks, got 21; nearest: 20 and 26"),
        ({"depth": 3}, "depth", "must be 6n + 2 with basic blocks, got 3; nearest: 8"),
        (
            {"depth": 109, "block_type": "bottleneck"},
            "depth",
            "must be 9n + 2 .* got 109; nearest: 101 and 110",
        ),
        ({"depth": 20, "block_type": "bottlneck"}, "block_type", "Did you mean 'bottleneck'"),
        ({"depth": 20, "initial_channels": 0}, "initial_channels", "must be > 0, got 0"),
        ({"depth": 20, "widen_first_stage": False}, "widen_first_stage", "is for bottleneck blocks only"),
        (
            {"depth": 29, "block_type": "bottleneck", "widen_first_stage": False, "initial_channels": 6},
            "initial_channels",
            "must be a multiple of 4",
        ),
        ({"dept": 20}, "dept", "Did you mean 'depth'"),
        ({}, "depth", "is required"),
    ],
)
@pytest.mark.parametrize("family", ["resnet", "resnet_preact", "se_resnet_preact"])
def test_bad_residual_options_are_named(family, values, key, problem):
    with pytest.raises(ConfigError, match=problem.replace("+", r"\+")) as caught:
        read_options(models, {"name": family, **values}, "model")
    assert caught.value.key == f"model.{key}"


@pytest.mark.parametrize(
    ("values", "key", "problem"),
    [
        ({"name": "wrn", "depth": 27}, "depth", "must be 6n + 4, got 27; nearest: 22 and 28"),
        ({"name": "wrn", "dropout": 1}, "dropout", "must be >= 0 and < 1, got 1"),
        ({"name": "wrn", "widening_factor": 0}, "widening_factor", "must be > 0, got 0"),
        (
            {"name": "densenet", "depth": 101},
            "depth",
            "3n + 4 with basic blocks, got 101; nearest: 100 and 103",
        ),
        ({"name": "densenet", "compression_rate": 0}, "compression_rate", "must be > 0 and <= 1, got 0"),
        ({"name": "densenet", "dropout": -0.1}, "dropout", "must be >= 0 and < 1, got -0.1"),
        (
            {"name": "pyramidnet", "depth": 110, "block_type": "bottleneck", "alpha": 0},
            "alpha",
            "must be > 0, got 0",
        ),
        (
            {"name": "pyramidnet", "depth": 165},
            "depth",
            "6n + 2 with basic blocks, got 165; nearest: 164 and 170",
        ),
        (
            {"name": "pyramidnet", "shakedrop_final_probability": 0.9},
            "shakedrop_final_probability",
            "is for shakedrop: true only",
        ),
        (
            {"name": "pyramidnet", "shakedrop": True, "shakedrop_final_probability": 1.5},
            "shakedrop_final_probability",
            "must be in 0..1, got 1.5",
        ),
        (
            {"name": "pyramidnet_imagenet", "depth": 160},
            "depth",
            "18, 34, 50, 101, 152, 200, got 160; nearest: 152",
        ),
        ({"name": "resnet_preact_imagenet", "depth": 20}, "depth", "got 20; nearest: 18"),
        ({"name": "resnext", "depth": 30}, "depth", "must be 9n + 2, got 30; nearest: 29 and 38"),
        ({"name": "resnext", "cardinality": 0}, "cardinality", "must be > 0, got 0"),
        (
            {"name": "se_resnet_preact", "depth": 20, "reduction": 5},
            "reduction",
            "must divide .* 16 channels, got 5",
        ),
        ({"name": "se_resnet_preact", "depth": 20, "reduction": 0}, "reduction", "must be > 0, got 0"),
        ({"name": "shake_shake", "depth": 28}, "depth", "must be 6n + 2, got 28; nearest: 26 and 32"),
        ({"name": "shake_shake", "initial_channels": 7}, "initial_channels", "must be even .* got 7"),
        (
            {"name": "shake_shake", "shake_weights": "normalized"},
            "shake_weights",
            "Did you mean 'normalised'",
        ),
        (
            {
                "name": "shake_shake",
                "shake_forward": False,
                "shake_backward": False,
                "shake_weights": "normalised",
            },
            "shake_weights",
            "is for networks that shake",
        ),
        (
            {"name": "torchvision", "arch": "resnet51"},
            "arch",
            "unknown architecture 'resnet51'. Did you mean 'resnet50'",
        ),
        ({"name": "torchvision"}, "arch", "is required"),
        ({"name": "vgg", "initial_channels": -1}, "initial_channels", "must be > 0, got -1"),
    ],
)
def test_bad_options_are_named(values, key, problem):
    with pytest.raises(ConfigError, match=problem.replace("+", r"\+")) as caught:
        read_options(models, values, "model")
    assert caught.value.key == f"model.{key}"


@given(depth=st.integers(-10, 2000), block_type=st.sampled_from(["basic", "bottleneck"]))
def test_a_depth_is_right_or_its_neighbours_are_named(depth, block_type):
    per_block = {"basic": 6, "bottleneck": 9}[block_type]
    valid = depth > 2 and (depth - 2) % per_block == 0
    try:
        options = ResNetOptions(depth=depth, block_type=block_type)
    except ConfigError as error:
        nearest = [int(text) for text in error.problem.split("nearest: ")[1].split(" and ")]
        assert not valid
        assert all(ResNetOptions(depth=near, block_type=block_type) for near in nearest)
        assert all(abs(near - depth) < per_block for near in nearest) or depth < per_block + 2
    else:
        assert valid
        assert len(options.widths[0]) * per_block + 2 == depth


# --- blocks ------------------------------------------------------------------------------------


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy every parameter and buffer, in order; the modules may name them differently."""
    values = list(source.state_dict().values())
    names = list(target.state_dict())
    target.load_state_dict(dict(zip(names, values, strict=True)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("c_in", "stride"), [(16, 1), (8, 2)])
@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_resnet_blocks_agree_with_torchvision(kind, c_in, stride, training):
    torch.manual_seed(0)
    planes = 16 if kind == "basic" else 4
    downsample = None if c_in == 16 else nn.Sequential(conv1x1(c_in, 16, stride), nn.BatchNorm2d(16))
    theirs_class = {"basic": "BasicBlock", "bottleneck": "Bottleneck"}[kind]
    theirs = getattr(torchvision.models.resnet, theirs_class)(c_in, planes, stride, downsample)
    ours = ResidualBlock(c_in, 16, stride, residual_convs(kind, c_in, 16, stride))
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for value in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                nn.init.uniform_(value, 0.5, 1.5)
    copy_weights(theirs, ours)
    x = torch.randn(2, c_in, 8, 8)
    torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x))


def preact_block(preact_shortcut: bool, **options: bool) -> PreactBlock:
    torch.manual_seed(0)
    return PreactBlock(4, 4, 1, ResNetPreactOptions(depth=20, **options), preact_shortcut).eval()


@pytest.mark.parametrize("preact_shortcut", [True, False])
def test_preact_shortcut_is_activated_or_raw(preact_shortcut):
    block = preact_block(preact_shortcut)
    nn.init.zeros_(block.residual[-1].weight)
    nn.init.constant_(block.norm.running_mean, 0.3)
    x = torch.randn(2, 4, 8, 8)
    expected = torch.relu(block.norm(x)) if preact_shortcut else x
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    ("preact_shortcut", "remove_first_relu", "negative"),
    [(False, False, False), (False, True, True), (True, False, False), (True, True, False)],
)
def test_first_relu(preact_shortcut, remove_first_relu, negative):
    block = preact_block(preact_shortcut, remove_first_relu=remove_first_relu)
    seen = []
    block.residual[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block(torch.randn(2, 4, 8, 8))
    assert bool((seen[0] < 0).any()) == negative


def test_last_bn_ends_the_residual_branch():
    assert isinstance(preact_block(False, add_last_bn=True).residual[-1], nn.BatchNorm2d)
    assert isinstance(preact_block(False).residual[-1], nn.Conv2d)


def test_preact_stage_is_of_first_blocks_only():
    model = meta(ResNetPreactOptions(depth=20, preact_stage=(True, False, True)), spec())
    flags = [[block.preact_shortcut for block in stage] for stage in model.stages]
    assert flags == [[True, False, False], [False, False, False], [True, False, False]]


def test_resnext_block_agrees_with_torchvision():
    torch.manual_seed(0)
    downsample = nn.Sequential(conv1x1(8, 32, 2), nn.BatchNorm2d(32))
    theirs = torchvision.models.resnet.Bottleneck(8, 8, 2, downsample, groups=2, base_width=32).eval()
    ours = ResidualBlock(8, 32, 2, bottleneck_convs(8, 8, 32, 2, groups=2)).eval()
    copy_weights(theirs, ours)
    x = torch.randn(2, 8, 8, 8)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(("c_in", "activated"), [(4, True), (8, False)])
def test_wide_block_feeds_its_shortcut_after_relu_where_the_width_changes(c_in, activated):
    block = WideBlock(c_in, 8, 1, dropout=0.0).eval()
    nn.init.zeros_(block.residual[-1].weight)
    x = torch.randn(2, c_in, 4, 4)
    expected = block.shortcut(torch.relu(block.norm(x))) if activated else x
    torch.testing.assert_close(block(x), expected)


def test_wide_block_drops_between_its_convs():
    kinds = [type(layer).__name__ for layer in WideBlock(4, 8, 1, dropout=0.3).residual]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "Dropout", "Conv2d"]
    assert not any(isinstance(layer, nn.Dropout) for layer in WRNOptions(depth=10).build(spec()).modules())


@pytest.mark.parametrize("block_type", ["basic", "bottleneck"])
def test_dense_layer_appends_new_channels(block_type):
    layer = DenseLayer(6, DenseNetOptions(block_type=block_type, growth_rate=3)).eval()
    x = torch.randn(2, 6, 4, 4)
    y = layer(x)
    assert y.shape == (2, 9, 4, 4)
    assert torch.equal(y[:, :6], x)


def test_densenet_drops_after_every_conv_but_the_first():
    options = DenseNetOptions(depth=16, block_type="bottleneck", growth_rate=4, dropout=0.2)
    layers = [
        type(layer) for layer in meta(options, spec()).modules() if isinstance(layer, (nn.Conv2d, nn.Dropout))
    ]
    assert layers == [nn.Conv2d] + [nn.Conv2d, nn.Dropout] * (3 * 2 * 2 + 2)


@pytest.mark.parametrize(("stride", "unit_type"), [(1, "basic"), (2, "basic"), (2, "bottleneck")])
def test_pyramid_shortcut_pools_and_adds_channels_of_zeros(stride, unit_type):
    unit = PyramidUnit(4, 8, stride, unit_type, survival=None).eval()
    nn.init.zeros_(unit.residual[-1].weight)
    x = torch.randn(2, 4, 6, 6)
    y = unit(x)
    pooled = x if stride == 1 else x.unflatten(2, (3, 2)).unflatten(4, (3, 2)).mean((3, 5))
    torch.testing.assert_close(y[:, :4], pooled)
    assert not y[:, 4:].any()


def test_pyramid_widths_of_the_paper():
    widths = PyramidNetOptions(depth=272, block_type="bottleneck", alpha=200).unit_channels
    assert len(widths) == 90
    assert (widths[0], widths[29], widths[30], widths[59], widths[89]) == (18, 83, 85, 149, 216)


@given(alpha=st.integers(1, 400), blocks=st.integers(1, 40))
def test_pyramid_widths_grow_evenly_to_the_last(alpha, blocks):
    widths = [16, *PyramidNetOptions(depth=6 * blocks + 2, alpha=alpha).unit_channels]
    steps = [after - before for before, after in itertools.pairwise(widths)]
    assert widths[-1] == 16 + alpha
    assert max(steps) - min(steps) <= 1


def test_squeeze_excitation_scales_channels_by_their_means():
    gate = SqueezeExcitation(4, reduction=2).eval()
    first, second = gate.gate[1], gate.gate[3]
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0]])[..., None, None])
        second.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [0, 0], [-1, 0]])[..., None, None])
        first.bias.zero_()
        second.bias.copy_(torch.tensor([0, 0, 1.0, 0]))
    x = torch.randn(1, 4, 3, 3)
    x += torch.tensor([2.0, -3.0, 0.0, 1.0]).view(1, 4, 1, 1) - x.mean((2, 3), keepdim=True)
    scale = torch.sigmoid(torch.tensor([2.0, 3.0, 1.0, -2.0])).view(1, 4, 1, 1)
    torch.testing.assert_close(gate(x), x * scale)


def test_squeeze_excitation_ends_every_residual_branch():
    model = meta(SEResNetPreactOptions(depth=14, add_last_bn=True), spec())
    ends = [[type(layer).__name__ for layer in block.residual][-2:] for s in model.stages for block in s]
    assert ends == [["BatchNorm2d", "SqueezeExcitation"]] * 6


def test_second_half_of_the_shake_shortcut_looks_beside():
    shortcut = HalvesShortcut(1, 2, stride=2).eval()
    nn.init.ones_(shortcut.here.weight)
    nn.init.ones_(shortcut.beside.weight)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    expected = torch.tensor([[[0.0, 2], [8, 10]], [[5, 7], [13, 15]]])
    torch.testing.assert_close(shortcut(x)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shortcut_relu", [True, False])
def test_the_shake_shortcut_starts_after_the_first_relu_or_before_it(shortcut_relu):
    block = ShakeBlock(1, 2, 1, ShakeShakeOptions(shortcut_relu=shortcut_relu)).eval()
    for branch in block.branches:
        nn.init.zeros_(branch[0].weight)  # so only the shortcut is left
    assert block.shortcut
    nn.init.ones_(block.shortcut.here.weight)
    x = torch.tensor([-1.0, 2.0, 3.0, -4.0]).view(1, 1, 2, 2)
    expected = x.relu() if shortcut_relu else x
    torch.testing.assert_close(block(x)[:, :1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_vgg_has_thirteen_convs_with_bias(batch_norm):
    layers = list(meta(VGGOptions(batch_norm=batch_norm), spec()).modules())
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert len(convs) == 13
    assert all(conv.bias is not None for conv in convs)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in layers) == (13 if batch_norm else 0)


def test_every_torchvision_name_is_torchvisions():
    assert set(LABELS) <= set(torchvision.models.list_models(torchvision.models))
    assert len(set(LABELS.values())) == len(LABELS)


# --- initialisation ----------------------------------------------------------------------------


def test_linear_layers_may_start_uniform_by_their_outputs():
    def drawn(**options: Any) -> nn.Sequential:
        torch.manual_seed(1)
        layers = nn.Sequential(conv3x3(32, 128), nn.Linear(128, 16))
        initialise(layers, "fan_out", **options)
        return layers

    usual, (conv, linear) = drawn(), drawn(linear="uniform")
    assert torch.equal(conv.weight, usual[0].weight)
    assert linear.weight.abs().max().item() == pytest.approx(0.25, rel=0.01)  # 1 / sqrt(16)
    assert linear.weight.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.05)
    assert not linear.bias.any()


@pytest.mark.parametrize(("mode", "fan"), [("fan_out", 128 * 9), ("fan_in", 32 * 9)])
def test_initialise(mode, fan):
    def network() -> nn.Sequential:
        torch.manual_seed(1)
        layers = nn.Sequential(conv3x3(32, 128), nn.BatchNorm2d(128), nn.Linear(128, 64))
        nn.init.constant_(layers[1].weight, 7.0)
        nn.init.constant_(layers[1].bias, 7.0)
        initialise(layers, mode)
        return layers

    conv, norm, linear = network()
    assert conv.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.02)
    assert linear.weight.std().item() == pytest.approx(
        (2 / (64 if mode == "fan_out" else 128)) ** 0.5, rel=0.05
    )
    assert torch.equal(norm.weight, torch.ones(128))
    assert not norm.bias.any()
    assert not linear.bias.any()
    again = network().state_dict()
    assert all(
        torch.equal(value, again[name])
        for name, value in nn.Sequential(conv, norm, linear).state_dict().items()
    )
