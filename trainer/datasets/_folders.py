"""Image files in one folder a class: which there are, and how one is decoded. Torch-free at the top."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of the files that are images; others are left alone."""
NUM_NAMED = 5
"""Items that an error names; it counts the rest."""


def class_names(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; hidden ones are no classes."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def shown_names(folder: Path) -> tuple[str, ...] | None:
    """Return these names as text that any file can hold, None where the folder cannot be read."""
    try:
        return tuple(os.fsencode(name).decode(errors="replace") for name in class_names(folder))
    except OSError:
        return None


def image_names(folder: Path) -> list[str]:
    """Return the images in a class's folder and in folders in it: paths below it with /, sorted by part."""
    found = []
    for place, _, files in os.walk(folder):
        below = "" if place == str(folder) else Path(place).relative_to(folder).as_posix() + "/"
        images = (name for name in files if name.lower().endswith(SUFFIXES) and not name.startswith("."))
        found += [below + name for name in images]
    return sorted(found, key=lambda name: name.split("/"))


def labelled(root: Path, split: str, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of a split and their labels.

    Args:
        root: of the data set.
        split: the name of a folder in it with the classes' folders; a class may be missing.
        classes: names, in the order of their labels.

    Returns:
        paths below `root`, (N,) bytes, sorted by class, and labels, (N,) int64. Bytes of one length, so
        that a million of them take little memory and travel fast to other processes.
    """
    import numpy as np

    paths: list[bytes] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        folder = root / split / name
        images = image_names(folder) if folder.is_dir() else []
        paths += [os.fsencode(f"{split}/{name}/{image}") for image in images]
        labels += [label] * len(images)
    return np.array(paths, dtype=np.bytes_), np.array(labels, dtype=np.int64)


def opened(path: Path, channels: int) -> Image.Image:
    """Decode an image file: grey for one channel, else RGB. A damaged file raises nearly anything."""
    from PIL import Image

    with Image.open(path) as image:
        converted: Image.Image = image.convert("L" if channels == 1 else "RGB")
    return converted


def centre(image: Image.Image, resize: int, size: int) -> Image.Image:
    """Resize so that the shorter side has `resize` pixels, and cut out `size` x `size` from the middle."""
    from torchvision.transforms.v2 import functional

    cut: Image.Image = functional.center_crop(functional.resize(image, [resize]), [size])
    return cut


def listed(items: Sequence[str]) -> str:
    """Return the first of some items, and how many more there are."""
    more = f" and {len(items) - NUM_NAMED} more" if len(items) > NUM_NAMED else ""
    return ", ".join(items[:NUM_NAMED]) + more
