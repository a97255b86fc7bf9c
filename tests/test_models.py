"""Model families: published sizes, shapes, gradients, options."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainer.datasets import DataSpec, datasets
from trainer.models import models
from trainer.models._layers import conv1x1, conv3x3, initialise
from trainer.models.count import count_macs, count_params
from trainer.models.resnet import ResNetOptions
from trainer.models.resnet.network import BasicBlock, BottleneckBlock
from trainer.models.resnet_preact import ResNetPreactOptions
from trainer.models.resnet_preact.network import PreactBlock
from trainer.schema import ConfigError, canonical, read, read_options

# trainable parameters, and multiply-accumulates of conv and linear layers for one image
ZOO = json.loads((Path(__file__).parent / "zoo.json").read_text())
SMALL = [entry for entry in ZOO if entry["type"] == "cifar" and entry["family"] in models.names()]


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


def smallest(family: str) -> dict[str, object]:
    """Return the options of the family's smallest published model."""
    entries = [entry for entry in SMALL if entry["family"] == family]
    return {"name": family, **min(entries, key=lambda entry: entry["macs"])["options"]}


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


@pytest.mark.parametrize(
    ("family", "depth", "params"),
    [("resnet", 164, 1_704_154), ("resnet_preact", 164, 1_703_258), ("resnet_preact", 1001, 10_327_706)],
)
def test_params_of_bottleneck_networks_as_in_the_papers(family, depth, params):
    options = read(models.get(family), {"depth": depth, "block_type": "bottleneck"})
    assert count_params(meta(options, spec())) == params


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
@pytest.mark.parametrize("data", [datasets.get("digits")().spec, spec(32, 3, 100)], ids=["8x8x1", "32x32x3"])
def test_output_shape_and_gradients(family, data):
    torch.manual_seed(0)
    options = read_options(models, smallest(family), "model")
    options.check(data)
    model = options.build(data)
    initialise(model, "fan_out")
    images = torch.randn(4, data.channels, data.image_size, data.image_size)
    logits = model(images)
    assert logits.shape == (4, data.num_classes)
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("family", models.names())
def test_options_round_trip(family):
    given = smallest(family)
    options = read_options(models, given, "model")
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
@pytest.mark.parametrize("family", ["resnet", "resnet_preact"])
def test_bad_options_are_named(family, values, key, problem):
    with pytest.raises(ConfigError, match=problem.replace("+", r"\+")) as caught:
        read_options(models, {"name": family, **values}, "model")
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
        assert options.blocks_per_stage * per_block + 2 == depth


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
    ours = {"basic": BasicBlock, "bottleneck": BottleneckBlock}[kind](c_in, 16, stride)
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


# --- initialisation ----------------------------------------------------------------------------


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
