"""airbench and ResNet-9: whitening, first weights, ghost batch normalisation, what the layers compute."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer import Runtime, TrainConfig, data, parallel, train
from trainer.data import splits
from trainer.data.pipeline import Pipeline
from trainer.datasets import DataSpec, datasets
from trainer.kept import load_weights
from trainer.loop import Interrupted
from trainer.models import ModelOptions, _whitening, models
from trainer.models._layers import initialise
from trainer.models._whitening import whitening_filters
from trainer.models.airbench import AirbenchOptions
from trainer.models.count import count_macs, on_meta
from trainer.models.resnet9 import ResNet9Options
from trainer.models.resnet9.network import GhostBatchNorm2d
from trainer.optimizers._groups import for_optimizer, parameter_groups
from trainer.schema import ConfigError, read, read_options

CIFAR10 = datasets.get("cifar10")().spec
AIRBENCH: dict[str, Any] = {"name": "airbench", "widths": [8, 12, 12], "whitening_images": 8}
RESNET9: dict[str, Any] = {"name": "resnet9", "widths": [4, 6, 8, 10]}
RECIPE: dict[str, Any] = {
    "activation": "celu",
    "pool": "before_norm",
    "ghost_groups": 4,
    "frozen_bn_scale": True,
    "whitening": True,
    "whitening_images": 8,
    "output_scale": 1 / 16,
}
SMALL = [
    AIRBENCH,
    AIRBENCH | {"whitening": False, "whitening_images": 5000, "whitening_bias": "none", "dirac": False},
    AIRBENCH | {"convs_per_group": 3, "residual": True, "activation": "silu", "head_std": 1.0},
    AIRBENCH | {"residual": True, "whitening_bias": "uniform"},
    RESNET9,
    RESNET9 | RECIPE,
    RESNET9 | {"pool": "before_activation", "activation": "celu"},
]


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


def options_of(values: dict[str, Any]) -> ModelOptions:
    return cast(ModelOptions, read_options(models, values, "model"))


def built(values: dict[str, Any], kind: DataSpec = CIFAR10, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    network = options_of(values).build(kind)
    initialise(network, "fan_out")
    return network


def images(n: int = 12, channels: int = 3, size: int = 32) -> Tensor:
    """Return noise whose neighbouring pixels and channels go together, as those of images do."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(n, channels, size + 3, size + 3, generator=generator)
    smooth = F.avg_pool2d(noise, 4, stride=1) * 4
    return smooth + 0.5 * smooth.mean(1, keepdim=True) + 0.1


def numbered(network: nn.Module) -> nn.Module:
    """Give every weight and running statistic a value of its own, and return the network."""
    generator = torch.Generator().manual_seed(7)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) - (0 if "running_var" in name else 0.5))
    return network


def layers_of(network: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [layer for layer in network.modules() if isinstance(layer, kind)]


# --- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "total", "frozen"),
    [
        ({"name": "airbench"}, 1_972_792, 12 * 24 + 2 * (64 + 256 + 256)),
        ({"name": "airbench", "widths": [128, 384, 384]}, 4_606_520, 12 * 24 + 2 * (128 + 384 + 384)),
        (
            {"name": "airbench", "widths": [128, 384, 512], "convs_per_group": 3, "residual": True},
            9_918_776,
            12 * 24 + 3 * (128 + 384 + 512),
        ),
        ({"name": "airbench", "widths": [32, 64, 64]}, 146_744, 12 * 24 + 2 * (32 + 64 + 64)),
        ({"name": "airbench", "widths": [64, 128, 128]}, 569_656, 12 * 24 + 2 * (64 + 128 + 128)),
        ({"name": "resnet9"}, 6_568_640 + 4_480, 0),
        # a whitening conv of 3x3 and one of 1x1 in place of one of 3x3
        (
            {"name": "resnet9", "whitening": True, "frozen_bn_scale": True},
            6_568_640 + 4_480 + 27 * 27,
            27 * 27 + 2_240,
        ),
    ],
)
def test_published_sizes(values: dict[str, Any], total: int, frozen: int) -> None:
    network = on_meta(options_of(values), CIFAR10)
    assert sum(parameter.numel() for parameter in network.parameters()) == total
    assert sum(p.numel() for p in network.parameters() if not p.requires_grad) == frozen
    assert options_of(values).macs(CIFAR10) == count_macs(network, CIFAR10)


@pytest.mark.parametrize("values", SMALL, ids=str)
@pytest.mark.parametrize("kind", [spec(32), spec(45, 1, 7), spec(64, 4)], ids=lambda kind: kind.image_size)
def test_macs_without_torch(values: dict[str, Any], kind: DataSpec) -> None:
    assert options_of(values).macs(kind) == count_macs(on_meta(options_of(values), kind), kind)


def test_maps_of_airbench() -> None:
    network, sides = built(AIRBENCH), []
    for layer in (network.whitening, *network.groups, network.pool):
        layer.register_forward_hook(lambda layer, inputs, output: sides.append(output.shape[2:]))
    network(images(2))
    assert sides == [(side, side) for side in (31, 15, 7, 3, 1)]


def test_maps_of_resnet9() -> None:
    network, shapes = built(RESNET9 | RECIPE), []
    for layer in (network.whitening, network.first, *network.layers, network.pool):
        layer.register_forward_hook(lambda layer, inputs, output: shapes.append((*output.shape[1:3],)))
    network(images(4))
    assert shapes == [(27, 32), (4, 32), (6, 16), (6, 16), (8, 8), (10, 4), (10, 4), (10, 1)]


# --- what the networks compute -----------------------------------------------------------------


def norm(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    """Return what a layer of batch normalisation makes of x when its statistics are fixed."""
    groups = getattr(layer, "groups", 1)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    mean, var = (s.view(groups, -1).mean(0) for s in (layer.running_mean, layer.running_var))
    scale = layer.weight / (var + layer.eps).sqrt()
    return x * scale.view(-1, 1, 1) + (layer.bias - mean * scale).view(-1, 1, 1)


@pytest.mark.parametrize("convs", [2, 3])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_airbench_by_hand(convs: int, residual: bool, activation: str) -> None:
    values = AIRBENCH | {"convs_per_group": convs, "residual": residual, "activation": activation}
    network = numbered(built(values | {"output_scale": 0.25})).double().eval()
    conv, *convolutions = layers_of(network, nn.Conv2d)
    norms = layers_of(network, nn.BatchNorm2d)
    act = {"gelu": lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2, "silu": lambda x: x * torch.sigmoid(x)}
    x = images(3).double()
    out = act["gelu"](F.conv2d(x, conv.weight, conv.bias))
    steps = iter(zip(convolutions, norms, strict=True))
    for _ in range(3):
        conv, bn = next(steps)
        out = start = act[activation](norm(F.max_pool2d(F.conv2d(out, conv.weight, padding=1), 2), bn))
        for number in range(1, convs):
            conv, bn = next(steps)
            out = norm(F.conv2d(out, conv.weight, padding=1), bn)
            out = act[activation](out + start if residual and number == convs - 1 else out)
    expected = out.amax((2, 3)) @ network.head.weight.T / 4
    torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize("pool", ["after_activation", "before_activation", "before_norm"])
@pytest.mark.parametrize("values", [{}, {k: v for k, v in RECIPE.items() if k != "pool"}], ids=len)
def test_resnet9_by_hand(pool: str, values: dict[str, Any]) -> None:
    network = numbered(built(RESNET9 | values | {"pool": pool})).double().eval()
    convolutions, norms = layers_of(network, nn.Conv2d), iter(layers_of(network, nn.BatchNorm2d))
    out = x = images(3).double()
    if values:
        out = F.conv2d(x, convolutions.pop(0).weight, padding=1)
    steps = iter(convolutions)

    def act(x: Tensor) -> Tensor:
        return x.clamp(min=0) + (0.3 * torch.expm1(x.clamp(max=0) / 0.3) if values else 0)

    def block(x: Tensor, pooled: bool = False) -> Tensor:
        conv, bn = next(steps), next(norms)
        x = F.conv2d(x, conv.weight, padding=conv.weight.shape[-1] // 2)
        if pooled and pool == "before_norm":
            return act(norm(F.max_pool2d(x, 2), bn))
        x = norm(x, bn)
        return act(x) if not pooled else F.max_pool2d(act(x), 2)

    out = block(out)
    out = block(out, pooled=True)
    out = out + block(block(out))
    out = block(block(out, pooled=True), pooled=True)
    out = out + block(block(out))
    assert next(steps, None) is next(norms, None) is None
    expected = out.amax((2, 3)) @ network.head.weight.T * (1 / 16 if values else 1 / 8)
    torch.testing.assert_close(network(x), expected)


def test_pooling_before_the_activation_changes_nothing() -> None:
    found = []
    for pool in ("after_activation", "before_activation", "before_norm"):
        network = built(RESNET9 | {"pool": pool})
        logits = network(images())
        logits.square().sum().backward()
        found.append([logits, *(parameter.grad for parameter in network.parameters())])
    assert all(map(torch.equal, found[0], found[1]))
    assert not torch.allclose(found[0][0], found[2][0])


@pytest.mark.parametrize("values", SMALL, ids=str)
@pytest.mark.parametrize("precision", ["pure_fp16", "mixed_bf16", "mixed_fp16"])
def test_reduced_precision(values: dict[str, Any], precision: str) -> None:
    """Whitening images come as float32, whatever the weights are."""
    network, x = built(values, spec(32, 3, 4)), images(8)
    dtype = {"mixed_bf16": torch.bfloat16, "mixed_fp16": torch.float16}.get(precision)
    if dtype is None:
        network.half()
    network.to(memory_format=torch.channels_last)
    if network.images_to_prepare:
        network.prepare(x)
    x = x.to(network.head.weight.dtype).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        logits = network(x)
    F.cross_entropy(logits.float(), torch.arange(8) % 4).backward()
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    assert torch.isfinite(network.eval()(x)).all()


@pytest.mark.parametrize("values", SMALL, ids=str)
def test_weights_are_restored(values: dict[str, Any]) -> None:
    network, x = built(values), images(8)
    if network.images_to_prepare:
        network.prepare(x)
    network(x)  # moves the running statistics
    other = built(values, seed=1)
    assert not torch.equal(network.eval()(x), other.eval()(x))
    other.load_state_dict(network.state_dict())
    assert torch.equal(network(x), other(x))
    kinds = [{name: value.shape for name, value in n.state_dict().items()} for n in (network, meta(values))]
    assert kinds[0] == kinds[1]


def meta(values: dict[str, Any]) -> nn.Module:
    return on_meta(options_of(values), CIFAR10)


# --- first weights -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        AIRBENCH | {"dirac": False, "whitening_bias": "uniform"},
        RESNET9 | RECIPE,
        RESNET9 | {"pool": "before_norm"},
    ],
    ids=str,
)
def test_weights_start_as_torch_draws_them(values: dict[str, Any]) -> None:
    torch.manual_seed(5)
    fresh = options_of(values).build(CIFAR10).state_dict()
    network = numbered(options_of(values).build(CIFAR10))
    torch.manual_seed(5)
    initialise(network, "fan_out")
    assert all(torch.equal(value, fresh[name]) for name, value in network.state_dict().items())


def test_convs_of_airbench_start_as_the_identity() -> None:
    network = built(AIRBENCH | {"widths": [32, 12, 40]})
    for group in network.groups:
        x = torch.randn(2, group.rest[0].in_channels, 7, 7)
        assert torch.equal(group.rest[0](x), x)
    wider, narrower, _ = (group.first[0] for group in network.groups)
    x = torch.randn(2, 24, 7, 7)  # 8 more filters than there are channels to pass on
    assert torch.equal(wider(x)[:, :24], x)
    bound = (24 * 9) ** -0.5
    assert wider.weight[24:].abs().max().item() == pytest.approx(bound, rel=0.01)
    x = torch.randn(2, 32, 7, 7)
    assert torch.equal(narrower(x), x[:, :12])
    plain = built(AIRBENCH | {"dirac": False})
    assert all(layer.weight.count_nonzero() == layer.weight.numel() for layer in layers_of(plain, nn.Conv2d))


def test_biases_of_the_first_convolution() -> None:
    assert not built(AIRBENCH).whitening.bias.any()
    bias = built(AIRBENCH | {"whitening_bias": "uniform"}).whitening.bias
    assert bias.requires_grad
    assert 0.2 < bias.abs().max() <= 12**-0.5  # of 24 draws from -0.29..0.29
    assert built(AIRBENCH | {"whitening_bias": "none"}).whitening.bias is None


def test_head_of_airbench() -> None:
    plain, scaled = built(AIRBENCH), built(AIRBENCH | {"head_std": 2.0, "output_scale": 1 / 12})
    assert plain.head.bias is None
    assert plain.head.weight.abs().max() <= 12**-0.5
    assert scaled.head.weight.std().item() == pytest.approx(2.0)
    factor = scaled.head.weight / plain.head.weight
    torch.testing.assert_close(factor, factor[:1, :1].expand_as(factor))  # the same draw
    x = images(4)
    torch.testing.assert_close(scaled(x), plain(x) * 9 / 12 * factor[0, 0])


def test_scales_of_batch_normalisation_stay_one() -> None:
    """Also where they would decay; and the filters of the whitening stay as they are."""
    for values in (AIRBENCH, RESNET9 | RECIPE):
        network = built(values)
        network.prepare(images())
        filters = network.whitening.weight.clone()
        config = TrainConfig(
            model=options_of(values),
            dataset=read_options(datasets, "cifar10", ""),
            epochs=1,
            weight_decay=0.1,
        )
        groups = for_optimizer(parameter_groups(network, config), config)
        optimizer = config.optimizer.build(groups, 0.1, 1)
        network(images()).square().sum().backward()
        optimizer.step()
        for layer in layers_of(network, nn.BatchNorm2d):
            assert torch.equal(layer.weight, torch.ones(layer.num_features))
            assert layer.bias.any()
        assert torch.equal(network.whitening.weight, filters)


def test_scales_stay_frozen_when_batch_normalisation_is_synchronised() -> None:
    network = parallel.synchronise_batch_norm(built(AIRBENCH), torch.device("cpu"))
    norms = layers_of(network, parallel.SyncBatchNorm2d)
    assert len(norms) == 6
    assert not any(layer.weight.requires_grad for layer in norms)
    assert all(layer.bias.requires_grad for layer in norms)


def test_options_of_batch_normalisation() -> None:
    network = built(AIRBENCH | {"bn_momentum": 0.25, "bn_eps": 1e-3})
    assert {(layer.momentum, layer.eps) for layer in layers_of(network, nn.BatchNorm2d)} == {(0.25, 1e-3)}
    assert (AirbenchOptions().bn_momentum, AirbenchOptions().bn_eps) == (0.4, 1e-12)
    network = built(RESNET9 | RECIPE)
    assert {(layer.momentum, layer.eps) for layer in layers_of(network, nn.BatchNorm2d)} == {(0.1, 1e-5)}


# --- whitening ---------------------------------------------------------------------------------


def patches_of(x: Tensor, size: int) -> np.ndarray:
    """Return every patch as a row, (number of patches, C size^2), float64."""
    rows = F.unfold(x.double(), size).transpose(1, 2).flatten(0, 1)
    return cast(np.ndarray, rows.numpy())


@pytest.mark.parametrize(("size", "channels"), [(2, 3), (3, 3), (2, 1), (3, 4)])
@pytest.mark.parametrize("eps", [5e-4, 1e-2, 1.0])
def test_whitened_patches_are_uncorrelated(
    size: int, channels: int, eps: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_whitening, "IMAGES_AT_A_TIME", 5)
    x = images(17, channels, 20)
    filters = whitening_filters(x, size, eps)
    assert filters.shape == (channels * size**2, channels, size, size)
    rows = patches_of(x, size)
    eigenvalues = np.linalg.eigvalsh(rows.T @ rows / (len(rows) - 1))[::-1]
    assert eigenvalues[0] > 20 * eigenvalues[-1]
    out = F.conv2d(x, filters).double().transpose(0, 1).flatten(1).numpy()
    expected = np.diag(eigenvalues / (eigenvalues + eps))
    np.testing.assert_allclose(out @ out.T / (len(rows) - 1), expected, atol=2e-4)


def test_whitening_is_the_same_wherever_it_is_computed() -> None:
    x = images(9)
    filters = whitening_filters(x, 3, 1e-2)
    assert torch.equal(whitening_filters(x.contiguous(memory_format=torch.channels_last), 3, 1e-2), filters)
    torch.testing.assert_close(whitening_filters(-x, 3, 1e-2), filters)
    torch.testing.assert_close(whitening_filters(x.flip(0), 3, 1e-2), filters, rtol=1e-4, atol=1e-5)
    largest = filters.flatten(1).gather(1, filters.flatten(1).abs().argmax(1, keepdim=True))
    assert (largest > 0).all(), "the sign of an eigenvector is free: it is chosen"


def test_whitening_of_constant_images_is_finite() -> None:
    """All eigenvalues but one are 0."""
    filters = whitening_filters(torch.ones(2, 1, 8, 8), 2, 1e-2)
    assert torch.isfinite(filters).all()
    n = 2 * 7 * 7
    expected = torch.full((2, 2), 0.5 / (4 * n / (n - 1) + 1e-2) ** 0.5)  # the eigenvector is all halves
    torch.testing.assert_close(filters[0, 0], expected)


def test_airbench_has_each_filter_and_its_negative() -> None:
    for channels in (1, 3):
        network = built(AIRBENCH, spec(32, channels))
        network.prepare(images(8, channels))
        filters = whitening_filters(images(8, channels), 2, 5e-4)
        assert torch.equal(network.whitening.weight, torch.cat([filters, -filters]))
        assert network.images_to_prepare == 8
    assert built({"name": "airbench", "whitening": False, "widths": [8, 8, 8]}).images_to_prepare == 0


def test_resnet9_has_each_filter_once() -> None:
    network = built(RESNET9 | RECIPE)
    network.prepare(images(8))
    assert torch.equal(network.whitening.weight, whitening_filters(images(8), 3, 1e-2))
    assert network.images_to_prepare == 8
    assert built(RESNET9).images_to_prepare == 0


def test_a_resumed_trial_keeps_its_whitening(cache_dir: Path, tmp_path: Path) -> None:
    """The filters are those of the first training images, and the result that of a trial left alone."""
    config = TrainConfig(
        model=options_of(RESNET9 | RECIPE), epochs=2, train_size=96, batch_size=32, eval_every=2, lr=0.05
    )
    found = []
    for name, stops in (("alone", []), ("resumed", [2, 2])):
        runtime = Runtime(
            cache_dir=cache_dir,
            checkpoint=tmp_path / f"{name}.ckpt",
            checkpoint_seconds=math.inf,
            keep_checkpoint="last",
            weights_path=tmp_path / f"{name}.pt",
        )
        for steps in stops:
            asked = iter(range(steps))
            stop = dataclasses.replace(runtime, should_stop=lambda asked=asked: next(asked, None) is None)
            with pytest.raises(Interrupted):
                train(config, seed=0, runtime=stop)
        result = train(config, seed=0, runtime=runtime)
        assert result.resumes == len(stops)
        found.append(load_weights(tmp_path / f"{name}.pt").state_dict)
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())

    pixels = data.load(config.dataset, Path(), cache_dir)
    train_x = splits.split(pixels, config.train_size, config.num_held_out, config.split_seed).train_x[:8]
    normalise = Pipeline(config.dataset.spec, (), torch.device("cpu"), 0).normalise
    filters = whitening_filters(normalise(torch.from_numpy(train_x)), 3, 1e-2)
    assert torch.equal(found[0]["whitening.weight"], filters)


# --- ghost batch normalisation -----------------------------------------------------------------


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("groups", [2, 3, 16])
def test_each_ghost_group_is_normalised_by_itself(groups: int, memory_format: torch.memory_format) -> None:
    x = torch.randn(48, 5, 3, 4, dtype=torch.float64).contiguous(memory_format=memory_format)
    ghost = GhostBatchNorm2d(5, groups).double()
    weights = torch.rand(5), torch.rand(5)
    alone = [nn.BatchNorm2d(5).double() for _ in range(groups)]
    for layer in (ghost, *alone):
        with torch.no_grad():
            layer.weight.copy_(weights[0])
            layer.bias.copy_(weights[1])
    goal = torch.randn(x.shape, dtype=torch.float64)
    found, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
    for _ in range(2):
        normalised = ghost(found)
        (normalised * goal).sum().backward()
        for group, layer in enumerate(alone):
            out = layer(expected[group::groups])
            torch.testing.assert_close(normalised[group::groups], out)
            (out * goal[group::groups]).sum().backward()
    torch.testing.assert_close(found.grad, expected.grad)
    for name in ("weight", "bias"):
        total = sum(getattr(layer, name).grad for layer in alone)
        torch.testing.assert_close(getattr(ghost, name).grad, total)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(ghost, name), torch.cat([getattr(layer, name) for layer in alone]))
    assert ghost.num_batches_tracked == 2
    stacked = ghost.running_mean.view(groups, 5)
    assert len({tuple(row) for row in stacked.tolist()}) == groups, "every group has its own statistics"


def test_every_evaluation_uses_the_mean_of_the_groups() -> None:
    ghost, plain = GhostBatchNorm2d(2, 4).eval(), nn.BatchNorm2d(2, affine=False).eval()
    x = torch.randn(7, 2, 3, 3)  # cannot be divided by 4
    for factor in (1.0, 2.0):  # the network stays in evaluation mode while its statistics are overwritten
        state = {
            "running_mean": factor * torch.arange(8.0),
            "running_var": factor * torch.arange(8, 16),
        }
        ghost.load_state_dict(state, strict=False)
        plain.running_mean = factor * torch.tensor([3.0, 4.0])
        plain.running_var = factor * torch.tensor([11.0, 12.0])
        torch.testing.assert_close(ghost(x), plain(x))


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 7 images cannot be divided into 4 ghost groups"):
        GhostBatchNorm2d(2, 4)(torch.randn(7, 2, 3, 3))


def test_one_group_is_ordinary_batch_normalisation() -> None:
    assert {type(layer) for layer in layers_of(meta(RESNET9 | RECIPE), nn.BatchNorm2d)} == {GhostBatchNorm2d}
    plain = meta({"name": "resnet9"})
    assert {type(layer) for layer in layers_of(plain, nn.BatchNorm2d)} == {nn.BatchNorm2d}


# --- labels and refusals -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "label"),
    [
        (AirbenchOptions(), "airbench (64/256/256)"),
        (
            AirbenchOptions(widths=(128, 384, 512), convs_per_group=3, residual=True, bn_momentum=0.1),
            "airbench (128/384/512, 3 convs, residual), bn momentum 0.1",
        ),
        (
            AirbenchOptions(whitening_bias="uniform", head_std=1.0, output_scale=1 / 256, activation="silu"),
            "airbench (64/256/256), SiLU, whitening bias uniform, head std 1, output scale 0.00390625",
        ),
        (AirbenchOptions(dirac=False, whitening=False), "airbench (64/256/256), w/o dirac, w/o whitening"),
        (ResNet9Options(), "ResNet-9"),
        (
            ResNet9Options(pool="before_norm", widths=(64, 128, 256, 256)),
            "ResNet-9 (64/128/256/256), pool before BN",
        ),
        (
            ResNet9Options(activation="celu", celu_alpha=0.075, ghost_groups=16, frozen_bn_scale=True),
            "ResNet-9, CELU 0.075, 16 ghost groups, frozen BN scale",
        ),
        (ResNet9Options(whitening=True, whitening_images=500), "ResNet-9, whitening, whitening images 500"),
    ],
)
def test_labels(options: ModelOptions, label: str) -> None:
    assert options.label == label


CHOICES: dict[str, dict[str, list[Any]]] = {
    "airbench": {
        "widths": [[64, 256, 256], [64, 256, 512]],
        "convs_per_group": [2, 3],
        "residual": [False, True],
        "activation": ["gelu", "silu"],
        "dirac": [True, False],
        "whitening": [True, False],
        "whitening_bias": ["zero", "uniform", "none"],
        "head_std": [None, 1.0],
        "output_scale": [1 / 9, 1 / 256],
        "bn_momentum": [0.4, 0.1],
        "bn_eps": [1e-12, 1e-5],
    },
    "resnet9": {
        "widths": [[64, 128, 256, 512], [64, 128, 256, 256]],
        "activation": ["relu", "celu"],
        "pool": ["after_activation", "before_activation", "before_norm"],
        "ghost_groups": [1, 16],
        "frozen_bn_scale": [False, True],
        "whitening": [False, True],
        "output_scale": [0.125, 0.0625],
    },
}


@pytest.mark.parametrize("family", sorted(CHOICES))
def test_different_options_have_different_labels(family: str) -> None:
    every = list(itertools.product(*CHOICES[family].values()))
    read_all = (read(models.get(family), dict(zip(CHOICES[family], values, strict=True))) for values in every)
    assert len({options.label for options in read_all}) == len(every)


@pytest.mark.parametrize(
    ("values", "key", "problem"),
    [
        ({"name": "airbench", "widths": [64, 0, 64]}, "widths", "must be > 0, got [64, 0, 64]"),
        ({"name": "airbench", "convs_per_group": 4}, "convs_per_group", "must be 2 or 3, got 4"),
        ({"name": "airbench", "activation": "relu"}, "activation", "unknown choice 'relu'"),
        ({"name": "airbench", "whitening_eps": 0}, "whitening_eps", "must be > 0, got 0"),
        (
            {"name": "airbench", "whitening": False, "whitening_eps": 0.1},
            "whitening_eps",
            "whitening: true only",
        ),
        ({"name": "airbench", "bn_momentum": 1.5}, "bn_momentum", "must be > 0 and <= 1, got 1.5"),
        ({"name": "airbench", "head_std": 0}, "head_std", "must be > 0, got 0"),
        ({"name": "resnet9", "whitening_images": 9}, "whitening_images", "is for whitening: true only"),
        ({"name": "resnet9", "celu_alpha": 0.1}, "celu_alpha", "is for activation: celu only"),
        ({"name": "resnet9", "ghost_groups": 0}, "ghost_groups", "must be > 0, got 0"),
        ({"name": "resnet9", "pool": "before"}, "pool", "before_norm"),
    ],
)
def test_bad_options_are_named(values: dict[str, Any], key: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options_of(values)
    assert caught.value.key == f"model.{key}"
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    ("options", "key", "problem"),
    [
        (
            {"batch_size": 500},
            "batch_size",
            "must be a multiple of the model's 16 ghost groups (divided by subdivision), got 500; "
            "nearest: 496 and 512",
        ),
        ({"batch_size": 512, "subdivision": 64}, "batch_size", "got 8; nearest: 16"),
        (
            {"batch_size": 512, "num_gpus": 2, "sync_bn": True},
            "sync_bn",
            "ghost groups, which keep statistics apart",
        ),
        # the last map of digits has one pixel: a group needs two images
        ({"batch_size": 16, "dataset": "digits"}, "batch_size", "got 16; nearest: 32"),
        ({"batch_size": 1, "dataset": "digits", "model": "resnet9"}, "batch_size", "got 1; nearest: 2"),
    ],
)
def test_batches_that_cannot_be_normalised_are_refused(
    options: dict[str, Any], key: str, problem: str
) -> None:
    base = {"model": {"name": "resnet9", "ghost_groups": 16}, "dataset": "cifar10", "epochs": 1}
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_dict(base | options)
    assert caught.value.key == key
    assert problem in caught.value.problem
    TrainConfig.from_dict(base | {"batch_size": 512, "subdivision": 32})
    TrainConfig.from_dict(base | {"batch_size": 32, "dataset": "digits"})
