"""Reduced and held-out training sets: which images, and that a trial sees no others."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import TinyImages, config, figures

import trainer
from gridrun.trial import Trial
from trainer import ConfigError, TrainConfig, data
from trainer.data import splits
from trainer.datasets import Images
from trainer.loop import Interrupted

# heads of np.random.RandomState(0).permutation, as the reduced data sets are published
CIFAR10 = [11841, 19602, 45519, 25747, 42642, 31902, 30346, 12363]
SVHN = [6325, 30413, 47620, 40209, 2752, 30599, 49095, 20710]
BASE: dict[str, Any] = {"model": {"name": "resnet", "depth": 20}, "epochs": 10}  # 1442 images of digits


@pytest.mark.parametrize(
    ("num_images", "values", "sizes", "first"),
    [
        (50_000, {"train_size": 4000}, (4000, 0), CIFAR10),
        (
            50_000,
            {"val_size": 46_000},
            (4000, 46_000),
            CIFAR10,
        ),
        (73_257, {"train_size": 1000}, (1000, 0), SVHN),
        (
            73_257,
            {"train_size": 1000, "val_size": 7325},
            (1000, 7325),
            SVHN,
        ),
    ],
)
def test_published_reduced_data_sets(num_images, values, sizes, first):
    dataset = {50_000: "cifar10", 73_257: "svhn"}[num_images]
    config = TrainConfig.from_dict(BASE | {"dataset": dataset} | values)
    train, held_out = splits.indices(num_images, config.train_size, config.num_held_out, 0)
    assert (config.num_train, config.num_held_out) == sizes
    assert (len(train), len(held_out)) == sizes
    assert set(first) <= set(train.tolist())
    assert not set(first) & set(held_out.tolist())


def test_indices_are_pinned():
    train, held_out = splits.indices(20, 8, 5, 0)
    assert train.tolist() == [1, 6, 8, 10, 13, 17, 18, 19]
    assert held_out.tolist() == [0, 3, 11, 12, 15]


@given(
    num_images=st.integers(2, 500),
    keep=st.floats(0, 1, exclude_max=True),
    val_ratio=st.floats(0, 0.999),
    seed=st.integers(0, splits.MAX_SEED),
)
def test_parts_are_disjoint_deterministic_and_as_large_as_said(num_images, keep, val_ratio, seed):
    number = splits.num_held_out(num_images, val_ratio)
    rest = num_images - number
    train_size = max(1, int(keep * rest))
    train, held_out = splits.indices(num_images, train_size, number, seed)
    assert len(train) == train_size
    assert len(held_out) == num_images - rest < num_images
    assert len(held_out) == pytest.approx(val_ratio * num_images, abs=1)
    together = np.concatenate([train, held_out])
    assert len(np.unique(together)) == len(together)
    assert together.min() >= 0
    assert together.max() < num_images
    again = splits.indices(num_images, train_size, number, seed)
    assert all(np.array_equal(a, b) for a, b in zip((train, held_out), again, strict=True))

    whole, same = splits.indices(num_images, None, number, seed)
    assert np.array_equal(same, held_out)
    assert set(train.tolist()) <= set(whole.tolist())
    assert sorted([*whole.tolist(), *held_out.tolist()]) == list(range(num_images))


def test_a_larger_part_holds_a_smaller_one():
    small, large = (set(splits.indices(1000, size, 100, 3)[0].tolist()) for size in (100, 500))
    assert small < large
    assert large != set(splits.indices(1000, 500, 100, 4)[0].tolist())


@pytest.mark.parametrize(
    ("num_images", "ratio", "held_out"),
    [(100, 0.29, 29), (73_257, 0.1, 7325), (2, 0.9, 1), (100, 1 - 1e-9, 99)],
)
def test_a_share_is_rounded_down_and_leaves_an_image(num_images, ratio, held_out):
    assert splits.num_held_out(num_images, ratio) == held_out


def numbered(num_train: int = 20, num_test: int = 3) -> Images:
    """Return images whose pixels and labels are their place; the test set's begin at 100."""
    train, test = np.arange(num_train), np.arange(100, 100 + num_test)
    x = [y.astype(np.uint8).reshape(-1, 1, 1, 1) for y in (train, test)]
    return Images(x[0], train, x[1], test)


def test_labels_stay_with_their_images():
    parts = splits.split(numbered(), 8, 5, 0)
    for x, y in ((parts.train_x, parts.train_y), (parts.test_x, parts.test_y)):
        assert x.ravel().tolist() == y.tolist()
    assert parts.test_y.max() < 100  # held out, not of the test set


def test_a_reduced_set_is_measured_on_the_test_set():
    parts = splits.split(numbered(), 8, 0, 0)
    assert len(parts.train_y) == 8
    assert parts.test_y.tolist() == [100, 101, 102]


def test_whole_data_is_passed_on_as_it_is():
    images = numbered()
    assert all(a is b for a, b in zip(splits.split(images, None, 0, 0), images, strict=True))


# --- in a config -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train_size": 0}, "train_size: must be > 0, got 0"),
        (
            {"train_size": 1442},
            "train_size: must be below the 1442 training images there are (null takes all), got 1442",
        ),
        (
            {"train_size": 1300, "val_ratio": 0.1},
            "train_size: must be below the 1298 training images that val_ratio leaves (null takes all), "
            "got 1300",
        ),
        ({"val_ratio": 1}, "val_ratio: must be >= 0 and < 1, got 1.0"),
        ({"val_ratio": -0.1}, "val_ratio: must be >= 0 and < 1, got -0.1"),
        (
            {"val_ratio": 1e-4},
            "val_ratio: must hold out one of the 1442 training images at least, got 0.0001",
        ),
        (
            {"val_size": 1442},
            "val_size: must be > 0 and below the 1442 training images there are, got 1442",
        ),
        ({"val_size": 0}, "val_size: must be > 0 and below the 1442 training images there are, got 0"),
        ({"val_size": 9, "val_ratio": 0.1}, "val_size: says what val_ratio says; keep one of the two"),
        (
            {"val_size": 442, "train_size": 1000},
            "train_size: must be below the 1000 training images that val_size leaves (null takes all), "
            "got 1000",
        ),
        ({"split_seed": 1}, "split_seed: has no effect without train_size, val_ratio or val_size"),
        ({"split_seed": -1, "train_size": 9}, "split_seed: must be in 0..4294967295, got -1"),
        (
            {"train_size": 100},
            "batch_size: 128 is larger than the training set of digits (100 images)",
        ),
    ],
)
def test_splits_that_cannot_be_are_refused(values, message):
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_dict(BASE | values)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "num_train", "held_out"),
    [
        ({"val_size": 1, "split_seed": 1}, 1441, 1),
        ({"val_size": 1441, "batch_size": 1}, 1, 1441),
        ({"val_ratio": 7e-4}, 1441, 1),
        ({"train_size": 1, "batch_size": 1, "split_seed": 2**32 - 1}, 1, 0),
        ({"train_size": 1441}, 1441, 0),
    ],
)
def test_parts_of_one_image_are_taken(values, num_train, held_out):
    config = TrainConfig.from_dict(BASE | values)
    assert (config.num_train, config.num_held_out) == (num_train, held_out)


@pytest.mark.parametrize(
    ("values", "num_train", "steps"),
    [
        ({}, 1442, 11),
        ({"train_size": 1000}, 1000, 7),
        ({"val_ratio": 0.5}, 721, 5),
        ({"val_size": 721}, 721, 5),
    ],
)
def test_an_epoch_is_as_long_as_what_is_trained_on(values, num_train, steps):
    config = TrainConfig.from_dict(BASE | values)
    assert (config.num_train, config.steps_per_epoch) == (num_train, steps)


def test_defaults_keep_ids_and_each_split_has_its_own():
    written = [
        {},
        {"train_size": 1000},
        {"train_size": 1000, "split_seed": 1},
        {"val_ratio": 0.1},
        {"train_size": 1000, "val_ratio": 0.1},
    ]
    trials = [Trial(TrainConfig.from_dict(BASE | values), 0) for values in written]
    assert len({trial.trial_id for trial in trials}) == len(written)
    off = {"train_size": None, "val_ratio": 0, "val_size": None, "split_seed": 0}
    off = TrainConfig.from_dict(BASE | off)
    assert Trial(off, 0).trial_id == trials[0].trial_id


# --- in a trial ------------------------------------------------------------------------------------


@pytest.fixture
def runtime(tmp_path, cache_dir):
    return trainer.Runtime(data_dir=tmp_path, cache_dir=cache_dir)


def test_a_trial_trains_on_its_part_and_measures_on_the_other(runtime):
    split = config(train_size=17, val_ratio=0.2, split_seed=5)
    result = trainer.train(split, seed=0, runtime=runtime)
    assert result.num_images == config().num_epochs * 16

    # the same images as a data set of their own give the same figures
    images = data.load(TinyImages(), runtime.data_dir, runtime.cache_dir)
    train, held_out = splits.indices(26, 17, 5, 5)
    x, y = np.array(images.train_x), np.array(images.train_y)

    @dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
    class Part(TinyImages):
        name = "tiny_part"
        spec = dataclasses.replace(TinyImages.spec, num_train=17, num_test=5)

        def decode(self, data_dir, work_dir):
            return Images(x[train], y[train], x[held_out], y[held_out])

    assert figures(trainer.train(config(dataset=Part()), seed=0, runtime=runtime)) == figures(result)


def test_a_resumed_trial_on_a_part_ends_bit_identical(runtime, tmp_path):
    split = config(train_size=17, val_ratio=0.2)
    whole = trainer.train(split, seed=1, runtime=runtime)

    asked = iter([False, False, True, True])  # once a step; then again in the pause
    stopping = dataclasses.replace(
        runtime, checkpoint=tmp_path / "trial.ckpt", should_stop=lambda: next(asked, True)
    )
    with pytest.raises(Interrupted):
        trainer.train(split, seed=1, runtime=stopping)
    resumed = trainer.train(
        split, seed=1, runtime=dataclasses.replace(runtime, checkpoint=tmp_path / "trial.ckpt")
    )
    assert resumed.resumes == 1
    assert figures(resumed) == figures(whole)
    assert figures(whole) != figures(trainer.train(config(), seed=1, runtime=runtime))
