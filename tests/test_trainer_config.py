"""What a config refuses as a whole, and what it derives."""

from __future__ import annotations

from typing import Any

import pytest

import trainer
from trainer import ConfigError, TrainConfig

BASE: dict[str, Any] = {"model": {"name": "resnet", "depth": 20}, "epochs": 10}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs: must be > 0, got 0"),
        (
            {"epochs": "10"},
            "epochs: must be a number, got the text '10' (YAML reads it as text; write 10.0)",
        ),
        ({"lr": 0}, "lr: must be > 0, got 0.0"),
        ({"lr": -0.1}, "lr: must be > 0, got -0.1"),
        ({"lr": "1e-3"}, "lr: must be a number, got the text '1e-3' (YAML reads it as text; write 0.001)"),
        ({"weight_decay": -1e-4}, "weight_decay: must be >= 0, got -0.0001"),
        ({"batch_size": 0}, "batch_size: must be > 0, got 0"),
        ({"batch_size": 1443}, "batch_size: 1443 is larger than the training set of digits (1442 images)"),
        ({"warmup": {"name": "linear", "epochs": 10}}, "warmup.epochs: must be below epochs (10), got 10"),
        ({"warmup": {"name": "linear", "epochs": 0}}, "warmup.epochs: must be > 0, got 0"),
        (
            {"warmup": {"name": "linear", "epochs": 1, "start_factor": 1.5}},
            "warmup.start_factor: must be in 0..1, got 1.5",
        ),
        (
            {"warmup": {"name": "exponential", "epochs": 1, "start_factor": 0}},
            "warmup.start_factor: must be > 0 and <= 1, got 0.0",
        ),
        ({"warmup": "linear"}, "warmup.epochs: is required"),
        (
            {"schedule": {"name": "multistep", "milestones": [5, 10, 12]}},
            "schedule.milestones: must be below epochs (10), got [10.0, 12.0]",
        ),
        (
            {"schedule": {"name": "multistep", "milestones": [5, 5]}},
            "schedule.milestones: must be increasing and > 0, got [5.0, 5.0]",
        ),
        (
            {"schedule": {"name": "multistep", "milestones": [0]}},
            "schedule.milestones: must be increasing and > 0, got [0.0]",
        ),
        (
            {"schedule": {"name": "multistep", "milestones": [5], "gamma": 0}},
            "schedule.gamma: must be > 0 and <= 1, got 0.0",
        ),
        ({"optimizer": {"name": "sgd", "momentum": 1}}, "optimizer.momentum: must be in 0..1, got 1.0"),
        ({"optimizer": {"name": "sgd", "momentum": 0}}, "optimizer.nesterov: needs a momentum > 0"),
        (
            {"optimizer": {"name": "adam", "betas": [0.9, 1]}},
            "optimizer.betas: must be >= 0 and < 1, got [0.9, 1.0]",
        ),
        ({"optimizer": {"name": "adam", "betas": [0.9]}}, "optimizer.betas: must have 2 items, got 1"),
        ({"optimizer": {"name": "amsgrad", "eps": 0}}, "optimizer.eps: must be > 0, got 0.0"),
        ({"optimizer": {"name": "adabound", "gamma": 0}}, "optimizer.gamma: must be > 0, got 0.0"),
        ({"optimizer": {"name": "adaboundw", "final_lr": 0}}, "optimizer.final_lr: must be > 0, got 0.0"),
        ({"optimizer": {"name": "lars", "momentum": 1}}, "optimizer.momentum: must be >= 0 and < 1, got 1.0"),
        ({"optimizer": {"name": "lars", "eps": 0}}, "optimizer.eps: must be > 0, got 0.0"),
        ({"optimizer": {"name": "lars", "threshold": -1}}, "optimizer.threshold: must be >= 0, got -1.0"),
        ({"optimizer": "lar"}, "optimizer: unknown optimizer 'lar'. Did you mean 'lars'?"),
        (
            {"lr": 65505, "precision": "pure_fp16"},
            "lr: must be at most 65504 (the largest fp16 number) with pure_fp16, got 65505",
        ),
        ({"gradient_clip": 0}, "gradient_clip: must be > 0, got 0.0"),
        ({"ema_decay": 1}, "ema_decay: must be >= 0 and < 1, got 1.0"),
        ({"ema_decay": -0.1}, "ema_decay: must be >= 0 and < 1, got -0.1"),
        ({"subdivision": 0}, "subdivision: must be > 0, got 0"),
        ({"subdivision": 7}, "subdivision: must divide batch_size (128), got 7; nearest: 8"),
        ({"subdivision": 256}, "subdivision: must divide batch_size (128), got 256; nearest: 128"),
        (
            {"schedule": {"name": "linear", "min_factor": -1}},
            "schedule.min_factor: must be in 0..1, got -1.0",
        ),
        (
            {"schedule": {"name": "sgdr", "first_period": 0.5}},
            "schedule.first_period: must be >= 1 epoch, got 0.5",
        ),
        (
            {"schedule": {"name": "sgdr", "first_period": 11}},
            "schedule.first_period: must be at most epochs (10), got 11",
        ),
        (
            {"schedule": {"name": "sgdr", "first_period": 5, "period_factor": 0.5}},
            "schedule.period_factor: must be >= 1, got 0.5",
        ),
        (
            {"schedule": {"name": "sgdr", "first_period": 5, "min_factor": 2}},
            "schedule.min_factor: must be in 0..1, got 2.0",
        ),
        (
            {"schedule": {"name": "piecewise_linear", "knots": []}},
            "schedule.knots: must have at least one [epoch, factor]",
        ),
        (
            {"schedule": {"name": "piecewise_linear", "knots": [[0, 0], [0, 1]]}},
            "schedule.knots: must have epochs that are >= 0 and increasing, got [[0.0, 0.0], [0.0, 1.0]]",
        ),
        (
            {"schedule": {"name": "piecewise_linear", "knots": [[-1, 0]]}},
            "schedule.knots: must have epochs that are >= 0 and increasing, got [[-1.0, 0.0]]",
        ),
        (
            {"schedule": {"name": "piecewise_linear", "knots": [[0, 2]]}},
            "schedule.knots: must have factors in 0..1, got [[0.0, 2.0]]",
        ),
        (
            {"schedule": {"name": "piecewise_linear", "knots": [[0, 0], [11, 1]]}},
            "schedule.knots: must not go on after epochs (10), got 11",
        ),
        (
            {"schedule": {"name": "piecewise_linear", "knots": [0, 1]}},
            "schedule.knots: must be a list, got 0",
        ),
        (
            {"model": {"name": "resnet", "depth": 6 * 10**8 + 2}},
            "model.depth: must be at most 10,000, got 600,000,002",
        ),
        (
            {"model": {"name": "wrn", "depth": 9_994, "widening_factor": 10_000}},
            "model: takes 1e+17 multiply-accumulates an image; the most is 1e+14",
        ),
        (
            {"model": {"name": "resnet", "depth": 21}},
            "model.depth: must be 6n + 2 with basic blocks, got 21; nearest: 20 and 26",
        ),
        (
            {"model": {"name": "resnt", "depth": 20}},
            "model.name: unknown model 'resnt'. Did you mean 'resnet'?",
        ),
        (
            {"augmentation": {"horizontal_flip": {"probability": 2}}},
            "augmentation.horizontal_flip.probability: must be in 0..1, got 2.0",
        ),
        (
            {"precision": "bf16"},
            "precision: unknown choice 'bf16'. Choose from: fp32, mixed_bf16, mixed_fp16, pure_fp16, tf32.",
        ),
        ({"learning_rate": 1}, "learning_rate: unknown option."),
    ],
)
def test_a_config_that_cannot_be_trained_is_refused(values, message):
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_dict(BASE | values)
    assert str(caught.value).startswith(message)
    assert caught.value.key == message.split(":")[0]


@pytest.mark.parametrize("missing", ["model", "epochs"])
def test_model_and_epochs_are_required(missing):
    with pytest.raises(ConfigError, match=f"^{missing}: is required$"):
        TrainConfig.from_dict({key: BASE[key] for key in BASE if key != missing})


def test_the_bounds_themselves_are_taken():
    TrainConfig.from_dict(BASE | {"batch_size": 1442})
    TrainConfig.from_dict(BASE | {"warmup": {"name": "linear", "epochs": 9.9}})
    TrainConfig.from_dict(BASE | {"schedule": {"name": "multistep", "milestones": [9.9]}})
    TrainConfig.from_dict(BASE | {"optimizer": {"name": "sgd", "momentum": 0, "nesterov": False}})
    TrainConfig.from_dict(BASE | {"schedule": {"name": "sgdr", "first_period": 10}})
    TrainConfig.from_dict(BASE | {"schedule": {"name": "piecewise_linear", "knots": [[0, 0], [10, 1]]}})
    TrainConfig.from_dict(BASE | {"subdivision": 128, "ema_decay": 0, "gradient_clip": 1e-9})


@pytest.mark.parametrize(("batch_size", "steps"), [(1442, 1), (721, 2), (722, 1), (128, 11), (1, 1442)])
def test_the_last_incomplete_batch_is_no_step(batch_size, steps):
    assert TrainConfig.from_dict(BASE | {"batch_size": batch_size}).steps_per_epoch == steps


def test_equal_configs_are_one_key():
    written = TrainConfig.from_dict(BASE | {"lr": 0.1, "dataset": {"name": "digits"}, "epochs": 10.0})
    assert len({TrainConfig.from_dict(BASE), written}) == 1


def test_flat_names_every_option():
    flat = TrainConfig.from_dict(BASE).flat()
    assert flat["model"] == "resnet"
    assert flat["model.depth"] == 20
    assert flat["schedule.min_factor"] == 0.001
    assert flat["warmup"] is None
    assert not any(name.startswith("augmentation") for name in flat)


def test_the_package_names_what_it_offers():
    assert all(hasattr(trainer, name) for name in trainer.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        trainer.trian  # noqa: B018
