"""Every family learns: a short run of a narrow network ends with nearly every training image right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest

from trainer import Runtime, TrainConfig, train
from trainer.datasets import DatasetOptions, DataSpec, Images
from trainer.models import models
from trainer.schema import ConfigError, read_options

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

NUM_TRAIN, NUM_TEST, NUM_CLASSES = 256, 32, 4


class Blobs(DatasetOptions):
    """Noise with a bright square in one of four corners, the class. Not registered."""

    __slots__ = ()

    def decode(self, data_dir: Path, work_dir: Path) -> Images:
        size, channels = self.spec.image_size, self.spec.channels
        rng = np.random.default_rng(0)
        num_images = NUM_TRAIN + NUM_TEST
        x = rng.integers(0, 128, (num_images, channels, size, size), dtype=np.uint8)
        y = np.arange(num_images) % NUM_CLASSES
        for image, label in zip(x, y, strict=True):
            row, column = rng.integers(0, size // 4, 2) + size // 2 * np.array(divmod(label, 2))
            image[:, row : row + size // 4, column : column + size // 4] = 255
        return Images(x[:NUM_TRAIN], y[:NUM_TRAIN], x[NUM_TRAIN:], y[NUM_TRAIN:])


def blobs(image_size: int, channels: int) -> DataSpec:
    return DataSpec(
        num_classes=NUM_CLASSES,
        channels=channels,
        image_size=image_size,
        num_train=NUM_TRAIN,
        num_test=NUM_TEST,
        mean=(0.28,) * channels,
        std=(0.22,) * channels,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Blobs8(Blobs):
    name: ClassVar[str] = "blobs8"
    kind: ClassVar[str] = "dataset"
    spec: ClassVar[DataSpec] = blobs(8, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Blobs32(Blobs):
    name: ClassVar[str] = "blobs32"
    kind: ClassVar[str] = "dataset"
    spec: ClassVar[DataSpec] = blobs(32, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Blobs64(Blobs):
    name: ClassVar[str] = "blobs64"
    kind: ClassVar[str] = "dataset"
    spec: ClassVar[DataSpec] = blobs(64, 3)


# narrow where the family has a width; a family not named here trains with its defaults
NARROW = {
    "airbench": [
        {"widths": [16, 32, 32]},
        {
            "widths": [16, 16, 24],
            "convs_per_group": 3,
            "residual": True,
            "head_std": 1.0,
            "activation": "silu",
        },
    ],
    "dawn_net": [{"widths": [8, 16, 16, 16]}],
    "densenet": [
        {"depth": 16, "growth_rate": 8, "dropout": 0.1},
        {"depth": 16, "growth_rate": 8, "block_type": "bottleneck", "compression_rate": 0.5},
    ],
    "pyramidnet": [
        {"depth": 14, "alpha": 16, "shakedrop": True, "shakedrop_final_probability": 0.8},
        {"depth": 11, "alpha": 8, "block_type": "bottleneck"},
    ],
    "pyramidnet_imagenet": [{"depth": 18, "alpha": 8}],
    "resnet": [
        {"depth": 8},
        {"depth": 8, "shortcuts": "zero_padding", "conv_bias": True, "last_relu": False},
    ],
    "resnet9": [
        {"widths": [8, 16, 16, 32]},
        {
            "widths": [8, 16, 16, 32],
            "activation": "celu",
            "pool": "before_norm",
            "ghost_groups": 2,
            "frozen_bn_scale": True,
            "whitening": True,
        },
    ],
    "resnet_preact": [{"depth": 8}],
    "resnext": [{"depth": 11, "cardinality": 2, "base_channels": 8, "initial_channels": 8}],
    "se_resnet_preact": [{"depth": 8, "reduction": 4}],
    "shake_shake": [
        {"depth": 8, "initial_channels": 16},
        {"depth": 8, "initial_channels": 16, "shake_weights": "normalised"},
    ],
    "torchvision": [{"arch": "resnet18"}],
    "vgg": [{"initial_channels": 8}],
    "wrn": [{"depth": 10, "widening_factor": 2, "dropout": 0.1}],
}
CASES = [{"name": name, **options} for name in models.names() for options in NARROW.get(name, [{}])]


def smallest_images(values) -> DatasetOptions:
    """Return the images of fewest pixels that the model takes."""
    model = read_options(models, values, "model")
    for dataset in (Blobs8(), Blobs32()):
        try:
            model.check(dataset.spec)
        except ConfigError:
            continue
        return dataset
    return Blobs64()


@pytest.mark.parametrize("values", CASES, ids=lambda values: " ".join(map(str, values.values())))
def test_learns(values, tmp_path):
    dataset = smallest_images(values)
    large = dataset == Blobs64()
    config = TrainConfig(
        model=read_options(models, values, "model"),
        dataset=dataset,
        epochs=3 if large else 10,
        batch_size=32,
        lr=0.05,
    )
    result = train(config, seed=0, runtime=Runtime(cache_dir=tmp_path))
    assert result.status == "done"
    assert result.epochs[-1].train_error <= 0.1, [epoch.train_error for epoch in result.epochs]
    if not large:  # 24 steps are too few for the running statistics of batch normalisation
        assert result.epochs[-1].test_error <= 0.1, [epoch.test_error for epoch in result.epochs]
