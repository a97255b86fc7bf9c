"""Mean and standard deviation of the images that are trained on. Torch-free."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from trainer.config import TrainConfig
    from trainer.datasets import DataSpec, ImageFiles, Images

CHUNK = 1000
"""Images looked at together: few enough that their copy as numbers stays small."""


def normalised_spec(config: TrainConfig, images: Images | ImageFiles | None) -> DataSpec:
    """Return the facts about a config's data set, with the mean and std of each channel to normalise with.

    `images` are the config's part of the data set. None will do where they are those known of the data set.
    """
    spec = config.dataset.spec
    if config.normalisation != "per_channel_computed":
        return spec
    assert images is not None
    mean, std = mean_and_std(images.train_x)
    return dataclasses.replace(spec, mean=mean, std=std)


def mean_and_std(pixels: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of uint8 images (N, C, H, W), scaled to 0..1.

    The sums are exact, so neither the machine nor the order of images shows in the result. A channel without
    variation has a standard deviation of 1, because images are divided by it.
    """
    import numpy as np

    totals = np.zeros((2, pixels.shape[1]), dtype=np.int64)
    for start in range(0, len(pixels), CHUNK):
        chunk = pixels[start : start + CHUNK].astype(np.float64)  # whole numbers below 2^53 stay exact
        totals[0] += chunk.sum((0, 2, 3)).astype(np.int64)
        totals[1] += np.square(chunk).sum((0, 2, 3)).astype(np.int64)
    count = pixels.size // pixels.shape[1]
    sums, squares = totals.tolist()
    mean = tuple(total / (255 * count) for total in sums)
    variances = [count * square - total**2 for total, square in zip(sums, squares, strict=True)]
    return mean, tuple(math.sqrt(variance) / (255 * count) or 1.0 for variance in variances)
