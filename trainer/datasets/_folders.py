"""Image files in one folder per class: finding and decoding them. Torch-free at the top."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Suffixes of images; other files are ignored."""
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
"""What such files may hold, whatever they are called."""
MAX_PIXELS = 89_478_485
"""Of an image, as PIL warns: some 256 MiB in RGB. A small file can hold a thousand times as many."""
NUM_NAMED = 5
"""How many items an error lists; it counts the rest."""


def class_names(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def shown_names(folder: Path) -> tuple[str, ...] | None:
    """Return the class names as valid text, or None if the folder cannot be read."""
    try:
        return tuple(os.fsencode(name).decode(errors="replace") for name in class_names(folder))
    except OSError:
        return None


def image_names(folder: Path) -> list[str]:
    """Return the images in a class's folder and its subfolders: paths below it with /, sorted by part."""
    found = []
    for place, _, files in os.walk(folder):
        below = "" if place == str(folder) else Path(place).relative_to(folder).as_posix() + "/"
        images = (name for name in files if name.lower().endswith(SUFFIXES) and not name.startswith("."))
        found += [below + name for name in images]
    return sorted(found, key=lambda name: name.split("/"))


def labelled(root: Path, split: str, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the images in the folders root/split/CLASS and their labels. A class may be missing.

    Returns:
        Paths below `root`, (N,) bytes, sorted by class, and labels, (N,) int64. An array of bytes, because a
        million paths then take little memory and are fast to send to other processes.
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
    """Decode an image file: grey for one channel, else RGB.

    Raises:
        ValueError: it is no regular file, has more than MAX_PIXELS, or more than 8 bits a channel. A damaged
            one may raise any exception.
    """
    from PIL import Image

    if not path.is_file():  # a FIFO would keep its reader waiting for ever
        raise ValueError("is no file" if path.exists() else "no such file")
    with Image.open(path, formats=FORMATS) as image:  # any other could start a program, such as Ghostscript
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"has {image.width} x {image.height} pixels; the most is {MAX_PIXELS:,}")
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):  # PIL would make most of it white
            raise ValueError(f"has more than 8 bits a channel ({image.mode}); save it with 8")
        converted: Image.Image = image.convert("L" if channels == 1 else "RGB")
    return converted


def centre(image: Image.Image, resize: int, size: int) -> Image.Image:
    """Resize so that the shorter side has `resize` pixels, and cut out `size` x `size` from the middle."""
    from torchvision.transforms.v2 import functional

    cut: Image.Image = functional.center_crop(_resized(image, resize), [size])
    return cut


def five_crops(image: Image.Image, resize: int, size: int) -> tuple[Image.Image, ...]:
    """Resize as `centre` does, and cut out the four corners and the centre."""
    from torchvision.transforms.v2 import functional

    crops: tuple[Image.Image, ...] = functional.five_crop(_resized(image, resize), [size])
    return crops


def _resized(image: Image.Image, shorter: int) -> Image.Image:
    """Resize so that the shorter side has so many pixels. Raises ValueError: that is more than MAX_PIXELS."""
    from torchvision.transforms.v2 import functional

    if shorter**2 * max(image.size) > MAX_PIXELS * min(image.size):
        raise ValueError(f"is too narrow to resize: {image.width} x {image.height} pixels")
    resized: Image.Image = functional.resize(image, [shorter])
    return resized


def decoded(
    paths: Sequence[Path],
    channels: int,
    size: int,
    cut: Callable[[Image.Image, int], tuple[Image.Image, ...]],
    crops: int = 1,
) -> tuple[np.ndarray, list[str]]:
    """Decode image files, and cut `crops` parts of `size` x `size` pixels out of each: `cut(image, index)`.

    Returns:
        uint8 pixels, (N * crops, C, H, W), those of one image side by side, and a message for each file that
        cannot be decoded.
    """
    import numpy as np
    from torchvision.transforms.v2 import functional

    pixels = np.empty((len(paths), crops, channels, size, size), np.uint8)
    problems = []
    for i, path in enumerate(paths):
        try:
            parts = cut(opened(path, channels), i)
            for part, image in zip(pixels[i], parts, strict=True):
                part[:] = functional.pil_to_tensor(image).numpy()
        except Exception as error:  # damaged images raise almost anything
            problems.append(f"{path} ({error})")
    return pixels.reshape(-1, channels, size, size), problems


def listed(items: Sequence[str]) -> str:
    """Return the first of some items, and how many more there are."""
    more = f" and {len(items) - NUM_NAMED} more" if len(items) > NUM_NAMED else ""
    return ", ".join(items[:NUM_NAMED]) + more
