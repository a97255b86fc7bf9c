"""Reduced and held-out training sets: parts of one permutation of the training images.

    permutation   [ train_size | left out | held out ]

The held-out images are the end of the permutation; `train_size` counts from its start. This gives both
searches of Population Based Augmentation (arXiv:1905.05393) their very images: reduced CIFAR-10 has 4,000 and
46,000 images (`val_size: 46000`), reduced SVHN 1,000 and 7,325 (`train_size: 1000`, `val_size: 7325`). As in
the paper, classes are not balanced. Torch-free.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from trainer.schema import check

if TYPE_CHECKING:
    import numpy as np

    from trainer.datasets import ImageFiles, Images

MAX_SEED = 2**32 - 1
"""Largest seed that NumPy's RandomState takes."""


@functools.lru_cache  # a grid has many rows but few splits
def check_split(
    num_images: int, train_size: int | None, val_ratio: float, val_size: int | None, seed: int
) -> None:
    """Refuse a split with an empty part, and a second way to write the same split.

    Raises:
        ConfigError: names `train_size`, `val_ratio`, `val_size` or `split_seed`.
    """
    check(0 <= val_ratio < 1, "val_ratio", f"must be >= 0 and < 1, got {val_ratio}")
    if val_size is not None:
        check(val_ratio == 0, "val_size", "says what val_ratio says; keep one of the two")
        problem = f"must be > 0 and below the {num_images} training images there are, got {val_size}"
        check(0 < val_size < num_images, "val_size", problem)
    held_out = num_held_out(num_images, val_ratio, val_size)
    problem = f"must hold out one of the {num_images} training images at least, got {val_ratio}"
    check(val_ratio == 0 or held_out > 0, "val_ratio", problem)
    if train_size is not None:
        check(train_size > 0, "train_size", f"must be > 0, got {train_size}")
        rest = num_images - held_out
        which = f"that {'val_size' if val_size else 'val_ratio'} leaves" if held_out else "there are"
        problem = f"must be below the {rest} training images {which} (null takes all), got {train_size}"
        check(train_size < rest, "train_size", problem)
    check(0 <= seed <= MAX_SEED, "split_seed", f"must be in 0..{MAX_SEED}, got {seed}")
    is_split = train_size is not None or held_out > 0
    check(is_split or seed == 0, "split_seed", "has no effect without train_size, val_ratio or val_size")


def num_held_out(num_images: int, val_ratio: float, val_size: int | None = None) -> int:
    """Return how many images are held out: `val_size`, or the share, rounded down and never all of them."""
    if val_size is not None:
        return val_size
    held_out = math.floor(round(val_ratio * num_images, 6))  # 0.29 * 100 is 28.999...
    return min(held_out, num_images - 1)


def indices(
    num_images: int, train_size: int | None, held_out: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the training and of the `held_out` images, each in stored order.

    NumPy's legacy `RandomState(seed)` draws the permutation, because NumPy promises never to change it.
    Seed 0 gives the permutation of the published reduced data sets.
    """
    import numpy as np

    order = np.random.RandomState(seed).permutation(num_images)
    rest = num_images - held_out
    return np.sort(order[: rest if train_size is None else train_size]), np.sort(order[rest:])


def split(
    images: Images | ImageFiles, train_size: int | None, held_out: int, seed: int
) -> Images | ImageFiles:
    """Return the images to train on and to test on; parts of a set are copies.

    Held-out images, if there are any, take the place of the test set.
    """
    if train_size is None and held_out == 0:
        return images
    train, val = indices(len(images.train_y), train_size, held_out, seed)
    parts = images._replace(train_x=images.train_x[train], train_y=images.train_y[train])
    if held_out:
        parts = parts._replace(test_x=images.train_x[val], test_y=images.train_y[val])
    return parts
