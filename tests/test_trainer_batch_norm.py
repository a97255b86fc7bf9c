"""Batch normalisation in a run: its momentum, and how its scales start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from trainer import ConfigError, Runtime, TrainConfig
from trainer.loop import Run
from trainer.models._layers import batch_norms
from trainer.parallel import Group

BASE: dict[str, Any] = {"model": {"name": "resnet", "depth": 8}, "epochs": 2, "batch_size": 8}


def run_of(cache_dir: Path, **options: Any) -> Run:
    return Run(tiny.config(**options), 0, Runtime(cache_dir=cache_dir), Group())


def inputs_of(norm: nn.Module) -> list[torch.Tensor]:
    """Return a list that will hold the mean of each training batch that a layer sees, by channel."""
    seen: list[torch.Tensor] = []

    def look(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if module.training:
            seen.append(inputs[0].detach().mean((0, 2, 3)))

    norm.register_forward_pre_hook(look)
    return seen


def test_dynamic_statistics_are_the_means_over_the_epoch(cache_dir):
    run = run_of(cache_dir, bn_momentum="dynamic")
    (norm,) = batch_norms(run.learner.model)
    seen = inputs_of(norm)
    for epoch in range(2):
        run.epoch()
        batches = seen[3 * epoch :]
        assert len(batches) == 3
        torch.testing.assert_close(norm.running_mean, torch.stack(batches).mean(0))


@pytest.mark.parametrize("momentum", [1.0, 0.01])
def test_a_number_is_the_share_of_the_current_batch(momentum, cache_dir):
    run = run_of(cache_dir, bn_momentum=momentum)
    (norm,) = batch_norms(run.learner.model)
    seen = inputs_of(norm)
    run.epoch()
    expected = torch.zeros(8)
    for mean in seen:
        expected = (1 - momentum) * expected + momentum * mean
    torch.testing.assert_close(norm.running_mean, expected)


def test_without_one_it_is_the_network_s(cache_dir):
    (norm,) = batch_norms(run_of(cache_dir).learner.model)
    assert norm.momentum == 0.1


def test_first_scales_are_drawn_after_all_weights(cache_dir):
    """So that no other weight changes with them."""
    runs = [run_of(cache_dir, bn_scale_init=how) for how in ("ones", "uniform")]
    plain, drawn = (run.learner.model.state_dict() for run in runs)
    differ = [name for name, value in plain.items() if not torch.equal(value, drawn[name])]
    assert differ == ["1.weight"]


def test_own_first_weights_go_with_drawn_scales(cache_dir):
    config = TrainConfig.from_dict(
        BASE | {"model": {"name": "resnet9", "widths": [4, 4, 4, 4]}, "bn_scale_init": "uniform"}
    )
    assert config.bn_scale_init == "uniform"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"bn_momentum": 0}, r"bn_momentum: must be > 0 and <= 1, or dynamic, got 0"),
        ({"bn_momentum": 1.5}, r"bn_momentum: must be > 0 and <= 1, or dynamic, got 1.5"),
        ({"bn_momentum": "dynamc"}, r"bn_momentum: must be a number or .* Did you mean 'dynamic'\?"),
        ({"bn_momentum": "1e-1"}, r"bn_momentum: must be a number, got the text '1e-1' .*write 0.1"),
        ({"bn_momentum": True}, r"bn_momentum: must be a number, got true"),
        ({"bn_momentum": [1]}, r"bn_momentum: must be a number, got \[1\]"),
        (
            {"bn_momentum": 0.1, "model": "airbench", "dataset": "cifar10"},
            r"bn_momentum: airbench .* has an option for it: model.bn_momentum",
        ),
        (
            {"bn_scale_init": "normal", "model": "airbench", "dataset": "cifar10"},
            r"bn_scale_init: has no effect: airbench .* has frozen scales",
        ),
        (
            {"bn_scale_init": "normal", "model": {"name": "resnet9", "frozen_bn_scale": True}},
            r"bn_scale_init: has no effect: ResNet-9, .* has frozen scales",
        ),
        ({"bn_scale_init": "uniformly"}, r"bn_scale_init: unknown choice .* Did you mean 'uniform'\?"),
    ],
)
def test_what_is_refused(options, problem):
    with pytest.raises(ConfigError, match=problem):
        TrainConfig.from_dict(BASE | options)


@pytest.mark.parametrize("momentum", [1, 0.01, "dynamic", None])
def test_written_and_read_back(momentum):
    config = TrainConfig.from_dict(BASE | {"bn_momentum": momentum})
    assert TrainConfig.from_dict(config.canonical()) == config
    assert config.canonical().get("bn_momentum") == momentum
    assert config.flat()["bn_momentum"] == momentum


def test_a_proxy_has_its_own(cache_dir):
    proxy = {"name": "proxy", "model": {"name": "airbench", "widths": [4, 4, 4]}}
    config = TrainConfig.from_dict(
        BASE
        | {
            "dataset": "cifar10",
            "select_examples": proxy,
            "bn_momentum": "dynamic",
            "bn_scale_init": "normal",
        }
    )
    assert config.select_examples is not None
