"""The user's own image files, in one folder a class."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.datasets import DataError, Images, datasets
from trainer.datasets._own import OwnData, check_hex, find
from trainer.schema import check

if TYPE_CHECKING:
    import numpy as np

FOLDER = "image_folder"
"""Below the data directory."""
TEST_FOLDERS = ("test", "val")
"""The first there is holds the test set."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of the files that are images; others are left alone."""
CHUNK = 64
"""Images a worker decodes at a time."""
NUM_NAMED = 5
"""Broken images that an error names; it counts the rest."""


@datasets.register("image_folder")
@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFolder(OwnData):
    """Own images: a folder `image_folder/*` of the data directory with train/CLASS and test/CLASS.

    `val` will do for `test`. Classes are numbered in the order of their sorted names. Every image
    is resized so that its shorter side is `image_size`, and its centre is cut out: once, into the
    cache, so what is trained on is of one size, and augmented as batches like any other data set.
    """

    digest: str
    """Of the names and sizes of all its images (`digest_of`); the folder is found by it."""

    def __post_init__(self) -> None:
        check_hex("digest", self.digest, 16)
        check(self.channels in (1, 3), "channels", f"must be 1 (grey) or 3 (RGB), got {self.channels}")
        OwnData.__post_init__(self)

    def decode(self, data_dir: Path, work_dir: Path) -> Images:
        """Decode every image; what is decoded lies in files without names in `work_dir`.

        Raises:
            DataError: no folder has the digest, its files are not what the options say, or some
                cannot be decoded.
        """
        import numpy as np

        parent = data_dir / FOLDER
        candidates = sorted(path for path in parent.glob("*") if _split_folders(path))
        what = f"data set 'image_folder': no folder in {parent} has digest"
        root = find(candidates, self.digest, digest_of, what)
        train_dir, test_dir = _split_folders(root)
        classes = _names(train_dir)
        self._demand(len(classes) == self.num_classes, train_dir, f"{len(classes)} classes", "num_classes")
        train, test = _files(train_dir, classes), _files(test_dir, classes)
        self._demand(len(train) == self.num_train, train_dir, f"{len(train)} images", "num_train")
        self._demand(len(test) == self.num_test, test_dir, f"{len(test)} images", "num_test")
        return Images(
            self._decoded([path for path, _ in train], work_dir),
            np.array([label for _, label in train], dtype=np.int64),
            self._decoded([path for path, _ in test], work_dir),
            np.array([label for _, label in test], dtype=np.int64),
        )

    def _demand(self, condition: bool, folder: Path, found: str, option: str) -> None:
        if not condition:
            problem = f"{folder} has {found}, {option} says {getattr(self, option)}"
            raise DataError(f"data set 'image_folder': {problem}")

    def _decoded(self, paths: list[Path], work_dir: Path) -> np.ndarray:
        """Return a memory map (N, C, H, W), so that the images need not fit into memory."""
        import numpy as np

        broken: list[str] = []
        chunks = (paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK))
        # threads will do: Pillow decodes and resizes without holding the interpreter's lock
        with tempfile.TemporaryFile(dir=work_dir) as file, ThreadPool() as pool:
            for pixels, problems in pool.imap(self._chunk, chunks):
                file.write(pixels.data)
                broken += problems
            if broken:
                raise DataError(f"data set 'image_folder': cannot decode {_listed(broken)}")
            file.flush()
            size = (len(paths), self.channels, self.image_size, self.image_size)
            return np.memmap(file, np.uint8, "r", shape=size)

    def _chunk(self, paths: list[Path]) -> tuple[np.ndarray, list[str]]:
        """Return the images that can be decoded, and what is wrong with the others."""
        import numpy as np

        pixels = np.empty((len(paths), self.channels, self.image_size, self.image_size), np.uint8)
        broken = []
        for i, path in enumerate(paths):
            try:
                pixels[i] = self._image(path)
            except Exception as error:  # damaged images raise nearly anything
                broken.append(f"{path} ({error})")
        return pixels, broken

    def _image(self, path: Path) -> np.ndarray:
        from PIL import Image
        from torchvision.transforms.v2 import functional

        with Image.open(path) as image:
            image = image.convert("L" if self.channels == 1 else "RGB")
        image = functional.center_crop(functional.resize(image, [self.image_size]), [self.image_size])
        pixels: np.ndarray = functional.pil_to_tensor(image).numpy()  # (C, H, W)
        return pixels


def digest_of(root: Path) -> str:
    """Return 16 hex digits of the names and sizes of a folder's images, training and test set.

    Contents are not read: an image edited into exactly as many bytes goes unnoticed.
    """
    digest = hashlib.sha256()
    for folder in _split_folders(root):
        for name in _names(folder):
            for path in _images(folder / name):
                relative = os.fsencode(path.relative_to(root).as_posix())
                digest.update(relative + b"\0%d\n" % path.stat().st_size)
    return digest.hexdigest()[:16]


def _split_folders(root: Path) -> list[Path]:
    """Return the folders of the training and the test set, or none if one is missing."""
    tests = [root / name for name in TEST_FOLDERS if (root / name).is_dir()]
    return [root / "train", tests[0]] if tests and (root / "train").is_dir() else []


def _names(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; hidden ones are no classes."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    """Return the images in a class's folder, and in folders in it, sorted."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in found if not path.name.startswith("."))


def _files(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Return images and labels of a split that may have fewer classes, but no others."""
    if others := sorted(set(_names(folder)) - set(classes)):
        raise DataError(
            f"data set 'image_folder': {folder} has classes that train has not: {_listed(others)}"
        )
    return [(path, label) for label, name in enumerate(classes) for path in _images(folder / name)]


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - NUM_NAMED} more" if len(items) > NUM_NAMED else ""
    return ", ".join(items[:NUM_NAMED]) + more
