"""Whatever validation lets through trains: any registered things, in any combination."""

from __future__ import annotations

import hashlib
import io
import math
from pathlib import Path
from typing import Any

import any_config
import numpy as np
import pytest
from any_config import NARROW, configs, options
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from trainer import ConfigError, Runtime, TrainConfig, train
from trainer.augmentations import augmentations
from trainer.datasets import DataSpec, published
from trainer.datasets.image_folder import digest_of
from trainer.models import models
from trainer.models.count import count_macs, on_meta
from trainer.optimizers import optimizers
from trainer.schedules import schedules
from trainer.schema import read_options
from trainer.warmups import warmups

MAX_MACS = 4e8  # for the images of a batch: some tenths of a second
NUM_TRAIN, NUM_TEST = 12, 4
MAX_IMAGE_SIZE = 64  # the smallest that ImageNet's networks take


def kinds() -> list[tuple[int, int, int]]:
    """Return size, channels and classes of images: those of every registered data set, and more."""
    specs = [any_config.spec_of(name) for name in published()]
    found = {(min(s.image_size, MAX_IMAGE_SIZE), s.channels, min(s.num_classes, 100)) for s in specs}
    return sorted(found | {(28, 1, 10), (32, 1, 2), (32, 3, 10), (MAX_IMAGE_SIZE, 3, 5)})


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def runtime(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(data_dir=data_dir, cache_dir=tmp_path_factory.mktemp("cache"), workers=0)


@pytest.fixture(scope="module")
def toys(data_dir: Path) -> st.SearchStrategy[Any]:
    """Return data sets of noise: arrays of every kind, and a folder of images, decoded or streamed."""
    made: list[Any] = ["digits"]
    for size, channels, num_classes in kinds():
        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (NUM_TRAIN + NUM_TEST, channels, size, size), np.uint8)
        y = rng.integers(0, num_classes, len(x))
        file = io.BytesIO()
        parts = {"train_x": x[:NUM_TRAIN], "train_y": y[:NUM_TRAIN]}
        np.savez(file, **parts, test_x=x[NUM_TRAIN:], test_y=y[NUM_TRAIN:])
        path = data_dir / "npz" / f"{size}-{channels}-{num_classes}.npz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file.getvalue())
        digest = {"name": "npz", "sha256": hashlib.sha256(file.getvalue()).hexdigest()}
        made.append(digest | about(size, channels, num_classes))
    root = data_dir / "image_folder" / "own"
    for split, number in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        for i in range(number):
            path = root / split / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(i).integers(0, 256, (40 + i, 70 - i, 3), np.uint8)
            Image.fromarray(noise).save(path)
    folder = {"name": "image_folder", "digest": digest_of(root)}
    for size in (32, MAX_IMAGE_SIZE):
        for stream in (False, True):
            made.append(folder | about(size, 3, 2) | {"stream": stream, "resize": size + 8})
    return st.sampled_from(made)


def about(size: int, channels: int, num_classes: int) -> dict[str, Any]:
    return {
        "num_classes": num_classes,
        "channels": channels,
        "image_size": size,
        "num_train": NUM_TRAIN,
        "num_test": NUM_TEST,
        "mean": [0.5] * channels,
        "std": [0.3] * channels,
    }


def is_small(model: Any, spec: DataSpec) -> bool:
    """Tell whether a network takes little time on a CPU."""
    built = read_options(models, model, "model")
    return count_macs(on_meta(built, spec), spec) <= MAX_MACS / 4


def trains(values: dict[str, Any], runtime: Runtime) -> None:
    """Take the steps of one epoch, as few as there can be."""
    config = TrainConfig.from_dict(values)
    result = train(config, seed=0, runtime=runtime)
    assert len(result.epochs) >= 1
    for epoch in result.epochs[:-1]:
        assert epoch.train_loss is not None
        assert epoch.test_loss is not None
    last = result.epochs[-1]
    losses = (last.train_loss, last.test_loss)
    assert (result.status == "diverged") == (None in losses)
    assert all(math.isfinite(loss) for loss in losses if loss is not None)


FIXED = {"num_gpus": 1, "epochs": 1}  # other processes are another test's


def drawn(toys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return configs(toys, max_batch=6, fits=is_small, fixed=FIXED)


def few_steps(values: dict[str, Any]) -> dict[str, Any]:
    """Leave one step an epoch: digits has many images."""
    cut = values | {"train_size": values["batch_size"], "val_ratio": 0.0, "val_size": None}
    return cut if any_config.accepted(cut) else values


relaxed = settings(suppress_health_check=list(HealthCheck), deadline=None)


@settings(relaxed, max_examples=25)
@given(data=st.data())
def test_what_validation_lets_through_trains(data, toys, runtime):
    trains(few_steps(data.draw(drawn(toys))), runtime)


@pytest.mark.slow
@settings(relaxed, max_examples=1000)
@given(data=st.data())
def test_what_validation_lets_through_trains_long(data, toys, runtime):
    trains(few_steps(data.draw(drawn(toys))), runtime)


REGISTERED = [
    pytest.param(registry, field, name, id=f"{field}-{name}")
    for registry, field in (
        (models, "model"),
        (augmentations, "augmentation"),
        (optimizers, "optimizer"),
        (schedules, "schedule"),
        (warmups, "warmup"),
    )
    for name in registry.names()
]


@pytest.mark.parametrize(("registry", "field", "name"), REGISTERED)
@settings(relaxed, max_examples=2)
@given(data=st.data())
def test_every_registered_thing_trains(registry, field, name, data, toys, runtime):
    """None is left to chance."""
    thing = data.draw(options(registry, name))
    if registry is augmentations:
        thing = {name: {key: value for key, value in thing.items() if key != "name"}}
    dataset = data.draw(toys)
    values = {"model": any_config.BASE, "dataset": dataset, "batch_size": 4, **FIXED, field: thing}
    if registry is models and any_config.accepted(values):
        config = TrainConfig.from_dict(values)
        if not is_small(thing, config.dataset.spec):
            values = values | {"model": any_config.narrow(name)}
    try:
        TrainConfig.from_dict(values)
    except ConfigError:
        return  # a network for larger images, or a warm-up as long as the run
    trains(few_steps(values), runtime)


def test_families_are_narrowed_by_their_names():
    assert NARROW.keys() <= set(models.names())
