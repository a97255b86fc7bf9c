"""What a config refuses as a whole, and what it derives."""

from __future__ import annotations

from typing import Any

import pytest

import trainer
from trainer import ConfigError, TrainConfig

BASE: dict[str, Any] = {"model": {"name": "resnet", "depth": 20}, "epochs": 10}
STREAMED: dict[str, Any] = {"model": {"name": "torchvision", "arch": "resnet18"}, "dataset": "imagenet"}


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
        ({"epochs": -0.5}, "epochs: must be > 0, got -0.5"),
        ({"stop_after": 0}, "stop_after: must be in 1..10 (epochs), got 0"),
        ({"stop_after": 11}, "stop_after: must be in 1..10 (epochs), got 11"),
        ({"epochs": 1e-9}, "epochs: is less than a step, got 1e-09"),
        (
            {"parameter_groups": {"bn_bias": {"epochs": 1e-9, "anneal": True}}},
            "parameter_groups.bn_bias.epochs: is less than a step, got 1e-09",
        ),
        (
            {"bn_momentum": "dynamic", "subdivision": 2},
            "bn_momentum: dynamic needs subdivision 1, got 2",
        ),
        (
            {"model": {"name": "vgg", "batch_norm": False}, "bn_momentum": 0.2},
            "bn_momentum: has no effect: VGG-like (depth 15, w/o BN, channel 64) has no batch normalisation",
        ),
        ({"label_smoothing": -0.1}, "label_smoothing: must be >= 0 and < 1, got -0.1"),
        ({"label_smoothing": 1}, "label_smoothing: must be >= 0 and < 1, got 1"),
        ({"eval_every": 0}, "eval_every: must be > 0, got 0"),
        ({"num_gpus": 0}, "num_gpus: must be > 0, got 0"),
        ({"sync_bn": True}, "sync_bn: has no effect without num_gpus > 1"),
        (
            {"batch_size": 722, "num_gpus": 2},
            "batch_size: 722 on each of 2 GPUs is larger than the training set of digits (1442 images)",
        ),
        (
            {"ema_decay": 0.9, "average": {"name": "ema", "decay": 0.9}},
            "ema_decay: is short for an average, and there is one already",
        ),
        ({"clip_weight_decay": True}, "clip_weight_decay: has no effect without gradient_clip"),
        (
            {"clip_weight_decay": True, "gradient_clip": 1, "optimizer": "lars"},
            "clip_weight_decay: LARS has weight decay that is no term added to the gradient",
        ),
        ({"bn_momentum": 0}, "bn_momentum: must be > 0 and <= 1, or dynamic, got 0"),
        ({"bn_momentum": 1.5}, "bn_momentum: must be > 0 and <= 1, or dynamic, got 1.5"),
        ({"weight_decay_on": []}, "weight_decay_on: must name a kind; without decay, say weight_decay: 0"),
        ({"weight_decay_on": ["bn", "conv", "bn"]}, "weight_decay_on: names one twice: bn, conv, bn"),
        (
            {"weight_decay_on": ["conv"], "no_weight_decay_on_bn": True},
            "weight_decay_on: cannot stand beside no_weight_decay_on_bn",
        ),
        ({"tta": "flip", "tta_least_confident": 0}, "tta_least_confident: must be > 0 and <= 1, got 0"),
        ({"tta": "flip", "tta_least_confident": 1.1}, "tta_least_confident: must be > 0 and <= 1, got 1.1"),
        ({"tta_least_confident": 0.5}, "tta_least_confident: has no effect without tta"),
        ({"tta": "ten_crop"}, "tta: ten_crop needs images that are streamed"),
        ({"subdivision": 6, "batch_size": 10}, "subdivision: must divide batch_size (10), got 6; nearest: 5"),
        (
            {"model": "resnet9", "batch_size": 8, "subdivision": 8},
            "batch_size: must be 2 or more for images this small (divided by subdivision), got 1; nearest: 2",
        ),
        ({"subdivision": 3, "batch_size": 7}, "subdivision: must divide batch_size (7), got 3; nearest: 1"),
        (
            {"model": "resnet9", "dataset": "cifar10", "init": "fan_in"},
            "init: has no effect: ResNet-9 draws its weights in its own way",
        ),
        (
            {"model": "resnet9", "dataset": "cifar10", "linear_init": "uniform"},
            "linear_init: has no effect: ResNet-9 draws its weights in its own way",
        ),
        (
            STREAMED | {"tta": "flip", "tta_least_confident": 0.5},
            "tta_least_confident: must be 1 for images that are streamed, got 0.5",
        ),
        (
            STREAMED | {"normalisation": "per_channel_computed"},
            "normalisation: cannot be per_channel_computed for images that are streamed",
        ),
        (
            {"schedule": {"name": "cosine", "min_factor": 1.1}},
            "schedule.min_factor: must be in 0..1, got 1.1",
        ),
        (
            {"schedule": {"name": "multistep", "milestones": [5], "gamma": 1.5}},
            "schedule.gamma: must be > 0 and <= 1, got 1.5",
        ),
        (
            {"schedule": {"name": "piecewise_linear", "knots": [[0, 0.5], [1, 2]]}},
            "schedule.knots: must have factors in 0..1, got [[0.0, 0.5], [1.0, 2.0]]",
        ),
        ({"warmup": {"name": "exponential", "epochs": 0}}, "warmup.epochs: must be > 0, got 0"),
        (
            {"warmup": {"name": "exponential", "epochs": 1, "start_factor": 1.5}},
            "warmup.start_factor: must be > 0 and <= 1, got 1.5",
        ),
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
    TrainConfig.from_dict(BASE | {"lr": 65504, "precision": "pure_fp16", "weight_decay": 0})
    TrainConfig.from_dict(BASE | {"lr": 65505, "precision": "fp32", "label_smoothing": 0.99})
    TrainConfig.from_dict(BASE | {"epochs": 0.5, "eval_every": 1, "bn_momentum": 1})
    TrainConfig.from_dict(BASE | {"batch_size": 721, "num_gpus": 2, "sync_bn": True})
    TrainConfig.from_dict(BASE | {"clip_weight_decay": True, "gradient_clip": 1})
    TrainConfig.from_dict(BASE | {"tta": "flip", "tta_least_confident": 1})
    TrainConfig.from_dict(BASE | {"tta": "flip", "tta_least_confident": 1e-3})
    TrainConfig.from_dict(BASE | {"schedule": {"name": "cosine", "min_factor": 0}})
    TrainConfig.from_dict(BASE | {"schedule": {"name": "cosine", "min_factor": 1}})
    TrainConfig.from_dict(BASE | {"schedule": {"name": "sgdr", "first_period": 1, "min_factor": 1}})
    TrainConfig.from_dict(BASE | {"schedule": {"name": "multistep", "milestones": [9], "gamma": 1}})
    TrainConfig.from_dict(BASE | {"warmup": {"name": "exponential", "epochs": 1, "start_factor": 1}})


def test_what_goes_with_one_kind_of_network_or_images_is_taken_with_it():
    TrainConfig.from_dict(BASE | {"init": "fan_in", "linear_init": "uniform"})
    TrainConfig.from_dict(BASE | {"normalisation": "per_pixel"})
    TrainConfig.from_dict(BASE | STREAMED)
    TrainConfig.from_dict(BASE | STREAMED | {"tta": "ten_crop"})


def test_stopping_after_the_last_epoch_is_no_stop():
    assert TrainConfig.from_dict(BASE | {"stop_after": 10}) == TrainConfig.from_dict(BASE)
    for stop_after in (1, 9):
        assert TrainConfig.from_dict(BASE | {"stop_after": stop_after}).last_epoch == stop_after
    assert TrainConfig.from_dict(BASE | {"epochs": 9.5}).last_epoch == 10


def test_images_and_steps_of_whole_and_partial_runs():
    """Digits has 1,442 images: 11 steps of 128 an epoch."""
    of = lambda **options: TrainConfig.from_dict(BASE | options)  # noqa: E731
    assert (of().total_steps, of().num_images, of().images_per_epoch) == (110, 110 * 128, 11 * 128)
    assert of(stop_after=3).num_images == 33 * 128
    assert (of(epochs=1.5).total_steps, of(epochs=1.5).num_epochs) == (17, 2)  # 16.5
    assert of(epochs=1.5).num_images == 17 * 128
    assert of(num_gpus=2).num_images == 10 * 5 * 256
    assert of(train_size=300, val_size=100).num_train == 300
    assert of(val_size=100).num_train == 1342


def test_decay_is_said_in_two_ways():
    of = lambda **options: TrainConfig.from_dict(BASE | options).decayed  # noqa: E731
    assert of() is None
    assert of(no_weight_decay_on_bn=True) == ("conv",)
    assert of(weight_decay_on=["linear", "conv"]) == of(weight_decay_on=["conv", "linear"])
    assert of(weight_decay_on=["linear", "conv"]) == ("conv", "linear")


def test_an_optimiser_that_divides_by_an_eps_of_0_is_named_before_it_trains():
    """2^-24 is the smallest fp16 number; half of it is rounded to 0, anything above that to it."""
    of = lambda **options: TrainConfig.from_dict(BASE | options)  # noqa: E731
    for eps in (2.0**-25, 1e-8):
        with pytest.raises(ConfigError, match="diverges in pure_fp16") as caught:
            of(precision="pure_fp16", optimizer={"name": "adam", "eps": eps}).check_precision()
        assert caught.value.key == "precision"
    of(precision="pure_fp16", optimizer={"name": "adam", "eps": 2.0**-25 * 1.01}).check_precision()
    of(precision="mixed_fp16", optimizer={"name": "adam", "eps": 1e-8}).check_precision()
    of(precision="pure_fp16").check_precision()


def test_a_run_goes_on_from_one_that_begins_like_it():
    of = lambda **options: TrainConfig.from_dict(BASE | options)  # noqa: E731
    flips = lambda p: {"augmentation": {"horizontal_flip": {"probability": p}}}  # noqa: E731
    assert of().goes_on_from(of(stop_after=4), seed=0)
    assert of(stop_after=4).goes_on_from(of(stop_after=4), seed=0)
    assert not of(stop_after=4).goes_on_from(of(stop_after=5), seed=0)
    assert not of().goes_on_from(of(stop_after=4, lr=0.2), seed=0)
    assert not of(**flips(0.5)).goes_on_from(of(stop_after=4, **flips(0.4)), seed=0)


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
