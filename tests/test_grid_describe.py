"""Trials in words: no two of a grid read the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from all_grids import GRIDS

from gridrun.grid import load_grid, lone_trial
from gridrun.grid.describe import (
    column_value,
    describe,
    describe_option,
    describe_options,
    tell_apart,
    varying_columns,
    what_differs,
)


def described(*settings: str) -> str:
    return describe(*lone_trial(settings).trials)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("model.depth=8 epochs=1", "batch size 128, lr 0.1, cosine, 1 epoch, seed 0"),
        ("epochs=5 seed=3 lr=0.00005", "batch size 128, lr 5e-5, cosine, 5 epochs, seed 3"),
        (
            "epochs=9 optimizer=lars num_gpus=2 precision=mixed_bf16",
            "LARS, batch size 128, 2 GPUs, lr 0.1, cosine, 9 epochs, mixed (bf16), seed 0",
        ),
        (
            "epochs=9 schedule=multistep schedule.milestones=[3,6] warmup=linear warmup.epochs=2",
            "batch size 128, lr 0.1, multistep (milestones 3, 6), linear warm-up (2 epochs), 9 epochs, "
            "seed 0",
        ),
        (
            "epochs=9 augmentation.random_crop=true augmentation.cutout.size=2 no_weight_decay_on_bn=true",
            "batch size 128, lr 0.1, cosine, 9 epochs, cutout (size 2), random crop, "
            "no weight decay on BN, seed 0",
        ),
    ],
)
def test_words_of_a_trial(settings: str, words: str) -> None:
    given = settings if "model.depth" in settings else f"{settings} model.depth=8"
    assert described("model=resnet_preact", *given.split()) == f"digits ResNet-preact-8, {words}"


def test_options_of_a_model_are_told_by_its_label() -> None:
    model = ["model=resnet_preact", "model.depth=8", "epochs=1"]
    assert described(*model, "model.add_last_bn=true").startswith("digits ResNet-preact-8 (w/ last BN), ")
    assert described(*model, "model.initial_channels=32").startswith(
        "digits ResNet-preact-8, widening factor 2, "
    )


OWN = "channels: 1, image_size: 8, num_classes: 2, num_train: 9, num_test: 9, mean: [0.5], std: [0.5]"


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("fashion_mnist", "FashionMNIST"),
        ("{name: svhn, extra: true}", "SVHN with extra images"),
        ("{name: imagenet, image_size: 32, resize: 40}", "ImageNet (image size 32, resize 40)"),
        (f"{{name: npz, sha256: {'0a' * 32}, {OWN}}}", "npz 0a0a0a0a (channels 1)"),
    ],
)
def test_a_data_set_has_its_label(dataset: str, words: str) -> None:
    said = described(
        f"dataset={dataset}", "model=resnet_preact", "model.depth=20", "batch_size=2", "epochs=1"
    )
    assert said.startswith(f"{words} ResNet-preact-20, ")


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.name)
def test_no_two_trials_of_a_grid_read_the_same(path: Path) -> None:
    words = {trial.trial_id: describe(trial) for trial in load_grid(path).trials}
    assert len(set(words.values())) == len(words)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("batch_size", 128, "batch size 128"),
        ("epochs", 1, "1 epoch"),
        ("num_gpus", 8, "8 GPUs"),
        ("lr", 5e-5, "lr 5e-5"),
        ("schedule", "cosine", "cosine"),
        ("optimizer", {"name": "lars", "trust": 0.01}, "LARS (trust 0.01)"),
        ("warmup", "linear", "linear warm-up"),
        ("warmup", None, "no warmup"),
        ("augmentation.cutout", False, "no cutout"),
        ("augmentation.cutout.size", 16, "cutout size 16"),
        ("no_weight_decay_on_bn", False, "weight decay on BN"),
        ("weight_decay_on_bn", False, "no weight decay on BN"),
        ("tta", "six_views", "TTA six_views"),
        ("tta", "none", "TTA none"),
        ("tta_least_confident", 0.25, "TTA least confident 0.25"),
        ("init_from", {"name": "file", "sha256": "0a" * 32}, "init from file (sha256 0a0a0a0a)"),
        ("model.depth", 20, "depth 20"),
        ("model.depth", None, "depth none"),
    ],
)
def test_words_of_an_option(key: str, value: Any, words: str) -> None:
    assert describe_option(key, value) == words


def test_words_of_what_tells_rows_apart() -> None:
    rows = [{"name": "a", "lr": 0.1, "epochs": 5}, {"name": "b", "lr": 0.1, "epochs": 9}]
    columns = varying_columns(["name", "lr", "epochs"], rows)
    assert columns == ["name", "epochs"]
    assert [describe_options({key: row[key] for key in columns}) for row in rows] == [
        "a, 5 epochs",
        "b, 9 epochs",
    ]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("name", "ResNet-preact-8"),
        ("model", "ResNet-preact-8"),
        ("model.depth", 8),
        ("model.widening_factor", None),
        ("augmentation", ["cutout"]),
        ("augmentation.cutout", True),
        ("augmentation.mixup", False),
        ("augmentation.mixup.alpha", None),
        ("ghost_batch_size", "N/A"),
    ],
)
def test_value_of_a_row_in_a_column(column: str, value: Any) -> None:
    settings = ["model=resnet_preact", "model.depth=8", "epochs=9", "augmentation.cutout.size=2"]
    (trial,) = lone_trial(settings).trials
    assert column_value(trial.config, None, column) == value


def test_commas_in_parentheses_separate_nothing() -> None:
    texts = ["a, multistep (milestones 5, 7.5), seed 0", "a, cosine, seed 0"]
    assert what_differs(texts) == ("a, seed 0", ["multistep (milestones 5, 7.5)", "cosine"])
    assert what_differs(texts[:1]) == ("", texts[:1])


def test_what_tells_trials_apart_comes_first_and_what_they_share_only_once() -> None:
    fixed = ("model=resnet", "model.depth=8", "epochs=5")
    changed = [(f"lr={lr}", f"seed={seed}") for lr in (0.1, 0.2) for seed in (0, 1)]
    trials = [trial for some in changed for trial in lone_trial([*fixed, *some]).trials]
    alike, own = tell_apart(trials, {trials[2].trial_id: "fast"})
    assert alike == "digits ResNet-8, batch size 128, cosine, 5 epochs"
    assert list(own.values()) == [
        "lr 0.1, seed 0",
        "lr 0.1, seed 1",
        "fast: lr 0.2, seed 0",
        "lr 0.2, seed 1",
    ]
    alike, own = tell_apart(trials[:2])
    assert (alike, list(own.values())) == (describe(trials[0]).removesuffix(", seed 0"), ["seed 0", "seed 1"])
    alike, own = tell_apart(trials[:1])
    assert (alike, list(own.values())) == ("", [describe(trials[0])])
    alike, own = tell_apart(trials[::2])
    assert alike.endswith(", 5 epochs, seed 0")
    assert list(own.values()) == ["lr 0.1", "lr 0.2"]
    assert tell_apart([]) == ("", {})
