"""What a config must say about a folder of images: counted and measured. For whoever writes the config."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from trainer.datasets import DataError
from trainer.datasets._folders import centre, class_names, decoded, labelled, listed
from trainer.datasets.image_folder import digest_of, split_folders

MAX_MEASURED = 2000
"""Training images that mean and standard deviation are taken of, spread evenly over all."""


def measured(root: Path, image_size: int) -> dict[str, Any]:
    """Return the options of `image_folder` for a folder with train/CLASS and test/CLASS, or val/CLASS.

    Raises:
        DataError: it is no such folder, or an image cannot be decoded.
    """
    folders = split_folders(root)
    if not folders:
        raise DataError(
            f"{root}: needs the folders train and test (or val), each with a folder for each class"
        )
    train, test = folders
    classes = class_names(train)
    (paths, labels), (test_paths, _) = (labelled(root, folder.name, classes) for folder in (train, test))
    if len(set(labels.tolist())) < 2:
        raise DataError(f"{train}: needs two folders with images or more, one for each class")
    if not len(test_paths):
        raise DataError(f"{test}: has no images in the folders {listed(classes)}")
    mean, std = _statistics([root / os.fsdecode(path) for path in paths], image_size)
    return {
        "name": "image_folder",
        "digest": digest_of(root),
        "num_classes": len(classes),
        "image_size": image_size,
        "num_train": len(paths),
        "num_test": len(test_paths),
        "mean": mean,
        "std": std,
    }


def _statistics(paths: list[Path], size: int) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation of each channel of images, of pixels scaled to 0..1."""
    chosen = paths[:: -(-len(paths) // MAX_MEASURED)]
    pixels, broken = decoded(chosen, 3, size, lambda image, _: (centre(image, size, size),))
    if broken:
        raise DataError(f"cannot decode {listed(broken)}")
    scaled = pixels.astype("float32") / 255
    mean, std = (getattr(scaled, name)(axis=(0, 2, 3), dtype="float64") for name in ("mean", "std"))
    return [round(float(value), 4) for value in mean], [max(round(float(value), 4), 1e-4) for value in std]
