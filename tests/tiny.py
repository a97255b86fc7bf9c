"""A model and a data set so small that a whole training run takes milliseconds."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trainer import TrainConfig
from trainer.datasets import DataError, DatasetOptions, DataSpec, Images
from trainer.models import ModelOptions

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from trainer.metrics import Result


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyImages(DatasetOptions):
    """Noise with labels that mean nothing. Not registered, so that it is no choice of a grid."""

    name: ClassVar[str] = "tiny_images"
    kind: ClassVar[str] = "dataset"
    spec: ClassVar[DataSpec] = DataSpec(
        num_classes=3,
        channels=2,
        image_size=6,
        num_train=26,
        num_test=10,
        mean=(0.5, 0.4),
        std=(0.3, 0.2),
    )

    def decode(self, data_dir: Path, work_dir: Path) -> Images:
        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (36, self.spec.channels, 6, 6), dtype=np.uint8)
        y = rng.integers(0, 3, 36)
        return Images(x[:26], y[:26], x[26:], y[26:])


@dataclass(frozen=True, kw_only=True, slots=True)
class ElsewhereImages(TinyImages):
    """The same, but not on machines whose environment says so."""

    name: ClassVar[str] = "elsewhere_images"

    def decode(self, data_dir: Path, work_dir: Path) -> Images:
        if "WITHOUT_IMAGES" in os.environ:
            raise DataError("data set 'elsewhere_images' is not here.")
        return TinyImages.decode(self, data_dir, work_dir)


@dataclass(frozen=True, kw_only=True, slots=True)
class ColourImages(TinyImages):
    """The same with three channels."""

    name: ClassVar[str] = "colour_images"
    spec: ClassVar[DataSpec] = dataclasses.replace(
        TinyImages.spec, channels=3, mean=(0.5, 0.4, 0.3), std=(0.3, 0.2, 0.1)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyNet(ModelOptions):
    """One convolution and a linear layer. Not registered either."""

    name: ClassVar[str] = "tiny_net"
    kind: ClassVar[str] = "model"
    channels: int = 8
    dropout: float = 0.0

    @property
    def label(self) -> str:
        return "TinyNet"

    def build(self, data: DataSpec) -> nn.Module:
        from torch import nn

        return nn.Sequential(
            nn.Conv2d(data.channels, self.channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(self.channels),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Flatten(),
            nn.Linear(self.channels * data.image_size**2, data.num_classes),
        )


def config(**options: Any) -> TrainConfig:
    """Return 3 epochs of 3 steps each, with `options` in place of the usual ones."""
    usual: dict[str, Any] = {"model": TinyNet(), "dataset": TinyImages(), "epochs": 3, "batch_size": 8}
    return TrainConfig(**(usual | options))


def figures(result: Result) -> dict[str, Any]:
    """Return what a result says but for times, memory, resumes and notes."""
    epochs = [dataclasses.asdict(epoch) for epoch in result.epochs]
    for epoch in epochs:
        del epoch["train_seconds"]
    return {"status": result.status, "num_params": result.num_params, "epochs": epochs}
