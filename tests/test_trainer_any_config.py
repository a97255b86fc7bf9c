"""Whatever validation lets through trains: any registered things, in any combination."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import itertools
import math
import tempfile
from pathlib import Path
from typing import Any

import any_config
import numpy as np
import pytest
import tiny
from any_config import NARROW, configs, options
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from gridrun.grid import load_grid
from trainer import Runtime, TrainConfig, train
from trainer.augmentations import augmentations
from trainer.averages import averages
from trainer.datasets import DatasetOptions, DataSpec, datasets, published
from trainer.datasets.image_folder import digest_of
from trainer.loop import Interrupted
from trainer.models import models
from trainer.models.count import count_macs, on_meta
from trainer.optimizers import optimizers
from trainer.parameter_groups import parameter_groups
from trainer.schedules import schedules
from trainer.schedules.piecewise_linear import PiecewiseLinear
from trainer.schema import field_types, mapped_registry, read_options, registry_of, without_none
from trainer.selections import selections
from trainer.warmups import warmups

ROOT = Path(__file__).parent.parent
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
def arrays(data_dir: Path) -> dict[tuple[int, int, int], dict[str, Any]]:
    """Return data sets of noise by size, channels and classes."""
    made: dict[tuple[int, int, int], dict[str, Any]] = {}
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
        made[size, channels, num_classes] = digest | about(size, channels, num_classes)
    return made


@pytest.fixture(scope="module")
def toys(arrays: dict[tuple[int, int, int], dict[str, Any]], data_dir: Path) -> st.SearchStrategy[Any]:
    """Return data sets of noise: arrays of every kind, and a folder of images, decoded or streamed."""
    made: list[Any] = ["digits", *arrays.values()]
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


def few_steps(values: dict[str, Any], number: int = 1) -> dict[str, Any]:
    """Leave one step an epoch, or so many: digits has many images."""
    cut = values | {"train_size": number * values["batch_size"], "val_ratio": 0.0, "val_size": None}
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


def ends_the_same_when_interrupted(config: TrainConfig, runtime: Runtime, step: int) -> None:
    """Train once whole, and once with a stop before `step`."""
    whole = train(config, seed=0, runtime=runtime)
    with tempfile.TemporaryDirectory() as directory:
        saved = dataclasses.replace(runtime, checkpoint=Path(directory) / "checkpoint")
        asked = itertools.count()
        stopped = dataclasses.replace(saved, should_stop=lambda: next(asked) >= step)
        with contextlib.suppress(Interrupted):  # a run that diverges may be over before
            train(config, seed=0, runtime=stopped)
        resumed = train(config, seed=0, runtime=saved)
    assert tiny.figures(resumed) == tiny.figures(whole)
    assert whole.status == "diverged" or (resumed.resumes, resumed.notes) == (1, whole.notes)


REGISTERED = [
    pytest.param(registry, field, name, id=f"{field}-{name}")
    for registry, field in (
        (models, "model"),
        (augmentations, "augmentation"),
        (optimizers, "optimizer"),
        (schedules, "schedule"),
        (warmups, "warmup"),
        (averages, "average"),
        (parameter_groups, "parameter_groups"),
        (selections, "select_examples"),
    )
    for name in registry.names()
]
STEPS = 3


@pytest.mark.parametrize(("registry", "field", "name"), REGISTERED)
@settings(relaxed, max_examples=2)
@given(data=st.data())
def test_every_registered_thing_trains_and_resumes(registry, field, name, data, toys, runtime):
    """None is left to chance."""
    thing = data.draw(options(registry, name))
    if mapped_registry(field_types(TrainConfig)[field]):
        thing = {name: {key: value for key, value in thing.items() if key != "name"}}
    dataset = data.draw(toys)
    model = any_config.narrow("airbench") if name == "whitening_bias" else any_config.BASE
    values = {"model": model, "dataset": dataset, "batch_size": 4, **FIXED, field: thing}
    if registry is models and any_config.accepted(values):
        config = TrainConfig.from_dict(values)
        if not is_small(thing, config.dataset.spec):
            values = values | {"model": any_config.narrow(name)}
    assume(any_config.accepted(values))  # not a network for larger images, or a warm-up as long as the run
    values = few_steps(values, STEPS)
    ends_the_same_when_interrupted(
        TrainConfig.from_dict(values), runtime, data.draw(st.integers(1, STEPS - 1))
    )


PLAIN = [
    name
    for name, hint in field_types(TrainConfig).items()
    if not registry_of(without_none(hint)) and not mapped_registry(hint)
]


@pytest.mark.parametrize("field", [name for name in PLAIN if name not in {"batch_size", "num_gpus"}])
@settings(relaxed, max_examples=4)
@given(data=st.data())
def test_a_run_with_any_value_of_an_option_resumes(field, data, toys, runtime):
    base = {"model": any_config.BASE, "dataset": data.draw(toys), "batch_size": 4, **FIXED}
    values = few_steps(base, STEPS) | {
        field: data.draw(any_config.values_of(field_types(TrainConfig)[field]))
    }
    assume(any_config.accepted(values))
    config = TrainConfig.from_dict(values)
    assume(config.total_steps > 1)
    ends_the_same_when_interrupted(config, runtime, data.draw(st.integers(1, config.total_steps - 1)))


SPEED_RUNS = {
    "airbench94": ("airbench", "airbench94"),
    "Muon": ("airbench", "airbench94, Muon"),
    "96": ("airbench", "airbench96"),
    "96 faster": ("airbench", "airbench96, faster"),
    "record": ("airbench", "record of 2025 (six views of the 25 % least confident)"),
    "ResNet-9": ("resnet9_ladder", "10. mirrored test images, no Cutout"),
}


def in_small(config: TrainConfig, dataset: DatasetOptions) -> TrainConfig:
    """Return a speed run of 12 steps with a narrow network; all that is counted in epochs shrinks alike."""
    share, replace = 4 / config.epochs, dataclasses.replace
    options = {key: value for key, value in any_config.narrow(config.model.name).items() if key != "name"}
    schedule = config.schedule
    if isinstance(schedule, PiecewiseLinear):
        schedule = replace(schedule, knots=tuple((share * at, factor) for at, factor in schedule.knots))
    return replace(
        config,
        model=replace(config.model, **{**options, "widths": tuple(options["widths"])}),
        dataset=dataset,
        epochs=4,
        batch_size=4,
        precision="fp32",
        warmup=config.warmup and replace(config.warmup, epochs=share * config.warmup.epochs),
        schedule=schedule,
        parameter_groups=tuple(
            replace(group, epochs=group.epochs and share * group.epochs) for group in config.parameter_groups
        ),
    )


@pytest.mark.parametrize("step", [1, 4, 7, 11])
@pytest.mark.parametrize(("grid", "name"), SPEED_RUNS.values(), ids=SPEED_RUNS)
def test_speed_runs_resume(grid, name, step, arrays, runtime):
    """The bias of the whitening, where it freezes, does so before the third stop."""
    (row,) = load_grid(ROOT / f"grids/{grid}.yaml", where={"name": name}).rows
    config = in_small(row.config, read_options(datasets, arrays[32, 3, 10], "dataset"))
    assert all(config.steps_in(group.epochs) < 7 for group in config.parameter_groups if group.epochs)
    ends_the_same_when_interrupted(config, runtime, step)


def test_families_are_narrowed_by_their_names():
    assert NARROW.keys() <= set(models.names())
