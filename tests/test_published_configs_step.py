"""Every config of every grid takes a training step, on noise of the right shape and in a small batch.

Networks of few multiply-accumulates (`MAX_MACS`) take it as they are, each with its own recipe. The others
pass forward and backward on the meta device, where shapes are computed and no numbers; their recipes train a
narrow network. The normal suite leaves out what another config has alike, and what no first step notices.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from all_grids import GRIDS

from gridrun.grid import load_grid
from trainer import Runtime, TrainConfig, train
from trainer.augmentations import FileAugmentation
from trainer.datasets import DataSpec, Images
from trainer.datasets._own import OwnData
from trainer.metrics import Epoch
from trainer.models import ModelOptions
from trainer.models.count import count_macs, on_meta
from trainer.models.resnet_preact import ResNetPreactOptions

pytestmark = pytest.mark.long
MAX_MACS = 1e8
"""For one image, of networks that step as they are: up to ResNet-44 on a CPU."""
BATCH_SIZE = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise(OwnData):
    """Noise in the shape of another data set: one batch to train on, two images to test."""

    name: ClassVar[str] = "noise"
    kind: ClassVar[str] = "dataset"

    def decode(self, data_dir: Path, work_dir: Path) -> Images:
        rng = np.random.default_rng(0)
        total = self.num_train + self.num_test
        x = rng.integers(0, 256, (total, self.channels, self.image_size, self.image_size), np.uint8)
        y = rng.integers(0, self.num_classes, total)
        parts = x[: self.num_train], y[: self.num_train], x[self.num_train :], y[self.num_train :]
        return Images(*parts)


Network: TypeAlias = tuple[ModelOptions, Noise]


def like(spec: DataSpec) -> Noise:
    facts = dataclasses.asdict(spec) | {"num_train": BATCH_SIZE, "num_test": 2}
    del facts["streamed"]
    return Noise(**facts)


@cache
def configs(path: Path) -> list[TrainConfig]:
    """Return the distinct configs of a grid."""
    return list(dict.fromkeys(trial.config for trial in load_grid(path).trials))


@cache
def num_macs(model: ModelOptions, data: Noise) -> int:
    macs = model.macs(data.spec)
    return count_macs(on_meta(model, data.spec), data.spec) if macs is None else macs


def is_small(model: ModelOptions, data: Noise) -> bool:
    return num_macs(model, data) <= MAX_MACS


def in_small_batches(model: ModelOptions) -> ModelOptions:
    """Return the model with ghost batches of two images, if it has ghost batches."""
    groups = getattr(model, "ghost_groups", 1)
    return dataclasses.replace(model, ghost_groups=BATCH_SIZE // 2) if groups > 1 else model  # type: ignore[call-arg]


def narrow(model: ModelOptions) -> ModelOptions:
    """Return a network for the recipe of a large one: if it has widths, the same with an eighth of them."""
    if widths := dataclasses.asdict(model).get("widths"):
        return dataclasses.replace(model, widths=tuple(width // 8 for width in widths))  # type: ignore[call-arg]
    return ResNetPreactOptions(depth=8, initial_channels=4)


def reduced(config: TrainConfig) -> TrainConfig:
    """Return a config with the same recipe, of one step an epoch, whose network is small."""
    data = like(config.dataset.spec)
    model = in_small_batches(config.model)
    if not is_small(model, data):
        model = narrow(model)
    return dataclasses.replace(
        config,
        dataset=data,
        model=model,
        augmentation=tuple(each for each in config.augmentation if not isinstance(each, FileAugmentation)),
        train_size=None,
        val_ratio=0.0,
        val_size=None,
        split_seed=0,
        batch_size=BATCH_SIZE,
        subdivision=min(config.subdivision, 2),
        num_gpus=1,  # several processes are test_parallel's
        sync_bn=False,
    )


def recipe(config: TrainConfig) -> Hashable:
    """Return what a first step can notice of a config."""
    return dataclasses.replace(config, lr=0.1, weight_decay=1e-4, epochs=10_000, eval_every=1)


class Stepped(Exception):
    """An epoch has ended; the rest is not wanted."""


def step(config: TrainConfig, runtime: Runtime) -> Epoch:
    """Take an epoch's one step, through the training loop itself."""
    ended: list[Epoch] = []

    def stop(epoch: Epoch) -> None:
        ended.append(epoch)
        raise Stepped

    with pytest.raises(Stepped):
        train(config, seed=0, report=stop, runtime=runtime)
    return ended[0]


def assert_steps(config: TrainConfig, runtime: Runtime) -> None:
    epoch = step(config, runtime)
    assert epoch.train_loss is not None, config
    assert math.isfinite(epoch.train_loss)
    assert epoch.train_error == pytest.approx(0.5, abs=0.5 + 1e-6)


def kind(model: ModelOptions, data: Noise) -> Hashable:
    """Return what networks that differ in depth, in classes and in other whole numbers alone share."""
    options = dataclasses.asdict(model).items()
    own = str({name: value for name, value in options if type(value) is not int})
    return model.name, own, data.channels, data.image_size


@cache
def assert_shapes(model: ModelOptions, data: Noise) -> None:
    """Pass forward and backward and take an optimiser step on the meta device."""
    network = on_meta(model, data.spec)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    images = torch.empty(BATCH_SIZE, data.channels, data.image_size, data.image_size, device="meta")
    logits = network(images)
    assert logits.shape == (BATCH_SIZE, data.num_classes)
    F.cross_entropy(logits, torch.zeros(BATCH_SIZE, dtype=torch.long, device="meta")).backward()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert trained
    assert all(p.grad is not None and p.grad.shape == p.shape for p in trained)
    optimizer.step()


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    data_dir = tmp_path_factory.mktemp("data")
    shutil.copytree(Path(__file__).parent.parent / "grids/weights", data_dir / "weights")
    return Runtime(cache_dir=tmp_path_factory.mktemp("cache"), data_dir=data_dir)


grids = pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)


@grids
def test_distinct_recipes_step(path, runtime):
    distinct = {recipe(config): config for config in map(reduced, configs(path))}
    for config in distinct.values():
        assert_steps(config, runtime)


@cache
def networks(path: Path) -> list[Network]:
    """Return the distinct networks of a grid, the one with the most multiply-accumulates first."""
    distinct = {(in_small_batches(config.model), like(config.dataset.spec)) for config in configs(path)}
    return sorted(distinct, key=lambda network: (-num_macs(*network), str(network)))


def large_networks(path: Path) -> list[Network]:
    return [network for network in networks(path) if not is_small(*network)]


@cache
def smallest() -> dict[Hashable, Network]:
    """Return the smallest network of every kind, for images of every shape, in all grids."""
    every = sorted((each for path in GRIDS for each in networks(path)), key=lambda each: -num_macs(*each))
    return {kind(*network): network for network in every}


def shallow(model: ModelOptions) -> ModelOptions:
    """Return the model with 6 bottlenecks a stage, if it has more than 20, which are alike."""
    deep = getattr(model, "depth", 0) > 200
    return dataclasses.replace(model, depth=3 * 3 * 6 + 2) if deep else model  # type: ignore[call-arg]


@grids
def test_large_networks_pass_forward_and_backward(path):
    for model, data in large_networks(path):
        if smallest()[kind(model, data)] == (model, data):
            assert_shapes(shallow(model), data)


@pytest.mark.slow
@grids
def test_every_large_network_passes_forward_and_backward(path):
    for model, data in large_networks(path):
        assert_shapes(model, data)


@pytest.mark.slow
@grids
def test_every_config_steps(path, runtime):
    for config in map(reduced, configs(path)):
        assert_steps(config, runtime)
