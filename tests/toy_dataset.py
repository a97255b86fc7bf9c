"""A tiny data set for tests of the cache: it counts how often it is decoded."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trainer.datasets import DatasetOptions, DataSpec, Images

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Toy(DatasetOptions):
    """Not registered, so that it is no choice of a grid."""

    name: ClassVar[str] = "toy"
    kind: ClassVar[str] = "dataset"
    spec: ClassVar[DataSpec] = DataSpec(
        num_classes=3, channels=1, image_size=4, num_train=6, num_test=3, mean=(0.5,), std=(0.5,)
    )
    fill: int = 0
    decode_seconds: float = 0.0

    def decode(self, data_dir: Path, work_dir: Path) -> Images:
        with (data_dir / "decodes").open("a") as log:
            log.write("decode\n")
        time.sleep(self.decode_seconds)
        x = np.arange(9 * 16, dtype=np.uint8).reshape(9, 1, 4, 4) + np.uint8(self.fill)
        y = np.arange(9, dtype=np.int64) % 3
        return Images(x[:6], y[:6], x[6:], y[6:])


def num_decodes(data_dir: Path) -> int:
    """Return how often any toy was decoded with this data directory."""
    log = data_dir / "decodes"
    return len(log.read_text().splitlines()) if log.exists() else 0
