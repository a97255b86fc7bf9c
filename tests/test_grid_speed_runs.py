"""The grids of the speed runs on CIFAR-10 against numbers that their sources print or that follow by hand."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gridrun.grid import Row, load_grid
from trainer import TrainConfig
from trainer.models.count import on_meta

ROOT = Path(__file__).parent.parent
SPEED_RUNS = ("airbench", "airbench_ablations", "resnet9_ladder")


@cache
def rows(grid: str, profile: str | None = None) -> dict[str, Row]:
    return {row.name or "": row for row in load_grid(ROOT / f"grids/{grid}.yaml", profile=profile).rows}


def config(grid: str, name: str) -> TrainConfig:
    return rows(grid)[name].config


def groups(run: TrainConfig) -> dict[str, Any]:
    return {group.name: group for group in run.parameter_groups}


def summed(lr: float, batch_size: int) -> float:
    """Return the learning rate of a summed loss for that of a mean loss."""
    return lr / batch_size


RECORD = "record of 2025 (six views of the 25 % least confident)"


@pytest.mark.parametrize(
    ("name", "lr", "bias_lr", "decay", "bias_decay", "steps", "warmup_steps"),
    [
        # for a summed loss, as airbench's scripts use them
        ("airbench93", 1.4648e-3, 0.09375, 1.3624, 0.021287, 528, 121),
        ("airbench94", 1.4648e-3, 0.09375, 1.3624, 0.021287, 476, 109),
        ("airbench95", 1.2738e-3, 0.08152, 1.5667, 0.02448, 720, 165),
        ("airbench96", 1.1464e-3, 0.07337, 1.3653, 0.021333, 1776, 177),
        ("airbench96, faster", 1.1464e-3, 0.07337, 1.3653, 0.021333, 2160, 216),
    ],
)
def test_airbench_s_decoupled_numbers(name, lr, bias_lr, decay, bias_decay, steps, warmup_steps):
    run = config("airbench", name)
    trained_on = 512 if name == "airbench96, faster" else 1024
    bias = groups(run)["bn_bias"]
    assert summed(run.lr, trained_on) == pytest.approx(lr, rel=1e-4)
    assert summed(bias.lr, trained_on) == pytest.approx(bias_lr, rel=1e-4)
    assert run.weight_decay * trained_on == pytest.approx(decay, rel=1e-4)
    assert bias.weight_decay * trained_on == pytest.approx(bias_decay, rel=1e-4)
    assert (run.steps_per_epoch, run.total_steps) == (48, steps)
    assert run.warmup is not None
    assert run.warmup.epochs * 48 == pytest.approx(warmup_steps)
    assert run.lr_at(warmup_steps) == pytest.approx(run.lr)


def test_airbench94_s_learning_rate_step_by_step():
    run = config("airbench", "airbench94")
    factors = [run.lr_at(step) / run.lr for step in (0, 109, 476)]
    assert factors == pytest.approx([0.2, 1.0, 0.07])
    bias = groups(run)["bn_bias"]
    assert run.lr_at(109, bias) == pytest.approx(96)  # 0.09375 x 1024
    assert run.steps_in(groups(run)["whitening_bias"].epochs) == 144


def test_airbench96_s_learning_rate_ends_at_0():
    run = config("airbench", "airbench96")
    assert [run.lr_at(step) / run.lr for step in (0, 177, 1776)] == pytest.approx([0.2, 1, 0], abs=1e-9)


def test_the_muon_recipe():
    run = config("airbench", "airbench94, Muon")
    assert (run.total_steps, run.steps_per_epoch, run.lr, run.weight_decay) == (200, 25, 0.24, 0)
    found = groups(run)
    assert [summed(found[name].lr, 2000) for name in ("whitening_bias", "bn_bias", "head")] == pytest.approx(
        [0.053, 0.053, 0.67]
    )
    for group in found.values():  # the decay of a step at the peak is 2e-6 x 2000
        assert group.lr * group.weight_decay == pytest.approx(0.004)
    assert run.steps_in(found["whitening_bias"].epochs) == 75
    assert run.lr_at(100) == pytest.approx(0.12)
    assert run.average is None


def test_the_record_s_recipe():
    run = config("airbench", RECORD)
    assert (run.steps_per_epoch, run.total_steps, run.lr) == (32, 243, 0.205)
    assert run.weight_decay == pytest.approx(1.6002048e-3)
    found = groups(run)
    assert [summed(found[name].lr, 1536) for name in ("whitening_bias", "bn_bias", "head")] == pytest.approx(
        [0.0573, 0.0573, 0.5415]
    )
    for group in found.values():
        assert group.lr * group.weight_decay == pytest.approx(1.6002048e-3)
    bias = found["whitening_bias"]
    assert run.steps_in(bias.epochs) == 7
    assert [run.lr_at(step, bias) / 88.0128 for step in (0, 3, 7)] == pytest.approx([1, 4 / 7, 0])
    assert run.lr_at(81) == pytest.approx(0.205 * 2 / 3)
    assert (run.label_smoothing, run.tta, run.tta_least_confident) == (0.09, "six_views_equal", 0.25)


SIZES = {  # parameters, and those that are never trained: the whitening's filters and the scales of BN
    "airbench93": (569_656, 288 + 2 * 320),
    "airbench94": (1_972_792, 288 + 2 * 576),
    "airbench94, Muon": (1_972_792, 288 + 2 * 576),
    "airbench95": (4_606_520, 288 + 2 * 896),
    "airbench96": (9_918_776, 288 + 3 * 1024),
    "airbench96, faster": (9_918_776, 288 + 3 * 1024),
    RECORD: (1_972_792, 288 + 2 * 576),
}
COMMON = {
    "model.dirac": True,
    "model.whitening": True,
    "model.whitening_eps": 5e-4,
    "model.whitening_images": 5000,
    "model.bn_eps": 1e-12,
    "model.bn_momentum": 0.4,
    "augmentation.horizontal_flip.alternating": True,
    "augmentation.random_crop.padding": 2,
    "augmentation.random_crop.padding_mode": "reflect",
    "label_smoothing": 0.2,
    "tta": "six_views",
}
SGD = {
    "model.activation": "gelu",
    "model.whitening_bias": "zero",
    "model.head_std": None,
    "model.output_scale": 1 / 9,
    "optimizer": "sgd",
    "optimizer.momentum": 0.85,
    "optimizer.nesterov": True,
    "average": "lookahead",
    "average.decay": 0.95,
    "average.every": 5,
    "average.ramp": 3.0,
    "parameter_groups.whitening_bias.epochs": 3.0,
}
MUON = {
    "model.whitening_bias": "uniform",
    "model.head_std": 1.0,
    "model.output_scale": 1 / 256,
    "optimizer": "muon",
    "optimizer.steps": 3,
    "average": None,
}
LARGE = {
    "model.bn_momentum": 0.1,
    "augmentation.random_crop.padding": 4,
    "augmentation.cutout.size": 12,
    "augmentation.cutout.inside": True,
}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("airbench93", SGD),
        ("airbench94", SGD),
        ("airbench95", SGD),
        ("airbench96", SGD | LARGE),
        (
            "airbench96, faster",
            SGD
            | LARGE
            | {
                "parameter_groups.whitening_bias.epochs": None,
                "select_examples.keep": 0.5,
                "select_examples.update_every": 4,
                "select_examples.model.widths": [32, 64, 64],
                "select_examples.model.bn_momentum": 0.1,
            },
        ),
        (
            "airbench94, Muon",
            MUON
            | {
                "model.activation": "gelu",
                "optimizer.momentum": 0.6,
                "optimizer.sgd_momentum": 0.85,
                "optimizer.coefficients": [3.4445, -4.775, 2.0315],
                "optimizer.rescale_every": 1,
                "optimizer.rescale_growth": 0,
            },
        ),
        (
            RECORD,
            MUON
            | {
                "model.activation": "silu",
                "model.bn_momentum": 0.4434,
                "model.whitening_images": 960,
                "optimizer.momentum": 0.655,
                "optimizer.sgd_momentum": 0.825,
                "optimizer.coefficients": [3.4576, -4.7391, 2.0843],
                "optimizer.rescale_every": 2,
                "optimizer.rescale_growth": 15,
                "augmentation.brightness.amount": 0.1399,
                "augmentation.contrast.amount": 0.1308,
                "label_smoothing": 0.09,
                "tta": "six_views_equal",
            },
        ),
    ],
)
def test_what_the_sources_print_of_network_and_recipe(name: str, values: dict[str, Any]) -> None:
    run = config("airbench", name)
    expected, found = COMMON | values, run.flat()
    assert {key: found.get(key) for key in expected} == expected
    used = {options.name for options in run.augmentation}
    assert used == {key.split(".")[1] for key in expected if key.startswith("augmentation.")}
    network = on_meta(run.model, run.dataset.spec)
    sizes = [p.numel() for p in network.parameters()]
    frozen = [p.numel() for p in network.parameters() if not p.requires_grad]
    assert (sum(sizes), sum(frozen)) == SIZES[name]


def test_only_the_record_looks_at_the_test_set_as_a_whole():
    for grid in SPEED_RUNS:
        for name, row in rows(grid).items():
            assert (row.config.tta_least_confident != 1) == (name == RECORD)


@pytest.mark.parametrize(
    ("name", "epochs", "lr", "points"),
    [
        ("0, 1. baseline", 24, 0.4, {0: 0, 5: 0.4, 24: 0}),
        ("3. pool before BN", 25, 0.4, {0: 0, 5: 0.4, 15: 0.2, 25: 0}),
        ("6. ghost BN, lr 0.6", 18, 0.6, {3.6: 0.6, 18: 0}),
        ("8. whitening", 15, 0.6, {3: 0.6, 9: 0.3, 15: 0}),
        ("8b. lr 1.0, Cutout 5", 14, 1.0, {2.8: 1.0, 14: 0}),
        ("9. EMA, lr floor", 13, 1.0, {2.6: 1.0, 11: 0.1, 13: 0.1}),
        (
            "10. mirrored test images, no Cutout",
            10,
            1.0,
            {0: 0, 1: 0.5, 2: 1.0, 5: 0.55, 8: 0.1, 9: 0.1, 10: 0.1},
        ),
    ],
)
def test_the_ladder_s_learning_rates(name, epochs, lr, points):
    run = config("resnet9_ladder", name)
    assert (run.epochs, run.lr, run.steps_per_epoch) == (epochs, lr, 97)
    for epoch, rate in points.items():
        # a knot may lie between two steps
        assert run.lr_at(round(97 * epoch)) == pytest.approx(rate, abs=2.1e-3)


def test_the_last_step_of_the_ladder():
    run = config("resnet9_ladder", "10. mirrored test images, no Cutout")
    assert run.total_steps == 970
    bias = groups(run)["bn_bias"]
    assert (bias.lr, bias.weight_decay) == (64, 7.8125e-6)
    assert run.weight_decay == 5e-4
    assert run.average is not None
    assert run.average.decay_at(5, 970) == pytest.approx(0.951, abs=1e-3)
    assert {options.name for options in run.augmentation} == {"random_crop", "horizontal_flip"}


def test_each_step_of_the_ladder_keeps_the_one_before():
    """Each step changes what its name says, and the number of epochs."""
    flats = [row.config.flat() for row in rows("resnet9_ladder").values()]
    ladder = [{key: value for key, value in flat.items() if value} for flat in flats]
    changed = [
        {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        - {"epochs", "warmup.epochs"}
        for before, after in itertools.pairwise(ladder)
    ]
    assert changed[:6] == [
        {"model.pool"},
        {"model.pool"},
        {"label_smoothing"},
        {"model.activation", "model.celu_alpha"},
        {"model.ghost_groups", "lr"},
        {"model.celu_alpha", "model.frozen_bn_scale", "model.output_scale"}
        | {f"parameter_groups.bn_bias{option}" for option in ("", ".lr", ".weight_decay")},
    ]
    assert changed[6] == {"model.whitening"}
    assert changed[7] == {"lr", "augmentation.cutout.size", "parameter_groups.bn_bias.lr"}
    assert changed[8] == {
        *("average", "average.decay", "average.every"),
        *("schedule", "schedule.knots", "warmup"),
    }
    assert changed[9] == {
        *("augmentation.cutout", "augmentation.cutout.size"),
        *("augmentation.cutout.inside", "augmentation.cutout.probability"),
        *("schedule.knots", "tta"),
    }


def test_ablations_differ_from_airbench94_in_one_part():
    whole = config("airbench_ablations", "airbench94")
    assert whole == config("airbench", "airbench94")
    for name, keys in {
        "random flip": {"augmentation.horizontal_flip.alternating"},
        "no test-time augmentation": {"tta"},
        "no label smoothing": {"label_smoothing"},
        "no Lookahead": {"average", "average.decay", "average.every", "average.ramp"},
        "whitening bias never frozen": {
            f"parameter_groups.whitening_bias{option}" for option in ("", ".epochs", ".anneal")
        },
        "no whitening": {"model.whitening"},
        "random initial weights": {"model.dirac"},
    }.items():
        one, other = whole.flat(), config("airbench_ablations", name).flat()
        assert {key for key in one | other if one.get(key) != other.get(key)} == keys


def test_the_simple_form_of_airbench94():
    """10 epochs of 50 steps; learning rate 10 and decay 0.015 are per 1,024 images, as in airbench94."""
    run = config("airbench_ablations", "simple form")
    assert (run.batch_size, run.epochs, run.total_steps, run.average) == (1000, 10, 500, None)
    scale = 1024 * (1 + 1 / 0.15)  # momentum 0.85
    assert summed(run.lr, 1000) == pytest.approx(10 / scale)
    assert run.lr * run.weight_decay == pytest.approx(0.015 * 1000 / scale)
    assert [run.lr_at(step) / run.lr for step in (0, 100, 500)] == pytest.approx([0.2, 1, 0])
    assert set(groups(run)) == {"bn_bias"}


def test_enough_runs():
    for grid in SPEED_RUNS:
        for name, row in rows(grid).items():
            assert len(row.seeds) >= (3 if name == "ResNet-18, standard" else 10)


@pytest.mark.parametrize("profile", ["cpu", "cpu_9977"])
@pytest.mark.parametrize("grid", SPEED_RUNS)
def test_the_profiles_for_cpus_are_cheap(grid, profile):
    small = rows(grid, profile)
    multiplications = 0
    for row in small.values():
        run, spec = row.config, row.config.dataset.spec
        macs = run.model.macs(spec)
        assert macs
        assert run.select_examples is None, "or count its proxy"
        passes = (
            3 * run.num_images
            + {"none": 1, "flip": 2, "six_views": 6, "six_views_equal": 6}[run.tta] * spec.num_test
        )
        multiplications += len(row.seeds) * passes * macs
        assert run.precision == "fp32"
        assert run.total_steps >= 20
    assert multiplications < 2 * 3600 * 8e9, "an hour on two cores that do 8 billion a second"


def test_the_profile_whole_is_the_recipes_for_94_percent_at_full_size():
    whole = rows("airbench", "whole")
    assert list(whole) == ["airbench94", RECORD]
    for name, row in whole.items():
        full = config("airbench", name).flat()
        assert row.config.flat() == full | {"precision": "mixed_bf16"}
        assert row.seeds == (0, 1, 2)
