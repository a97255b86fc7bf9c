"""The user's own image files, in one folder per class."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.datasets import DataError, DataSpec, ImageFiles, Images, Source, datasets
from trainer.datasets._folders import centre, class_names, decoded, image_names, labelled, listed, shown_names
from trainer.datasets._own import DIGEST_SHOWN, OwnData, check_hex, find
from trainer.schema import check

if TYPE_CHECKING:
    import numpy as np

FOLDER = "image_folder"
"""Below the data directory."""
TEST_FOLDERS = ("test", "val")
"""Names of the test set's folder; the first that exists is used."""
CHUNK = 64
"""Images that a thread decodes at a time."""


@datasets.register("image_folder")
@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFolder(OwnData):
    """Own images: a folder `image_folder/*` of the data directory with train/CLASS and test/CLASS.

    `val` may take the place of `test`. Classes are numbered in the order of their sorted names. Every image
    is resized so that its shorter side is `image_size`, and its centre is cut out. This is done once, into
    the cache; then images are augmented in batches, as in any other data set. With `stream`, the images
    stay files, and workers decode them each time they are used.
    """

    digest: str
    """Digest of the names and sizes of all images (`digest_of`), by which the folder is found."""
    resize: int | None = None
    """Length of the shorter side before the centre is cut out, pixels; None: `image_size`."""
    stream: bool = False
    """Use it for data too large for memory, and for `random_resized_crop`, which needs whole images."""

    def __post_init__(self) -> None:
        check_hex("digest", self.digest, 16)
        check(self.channels in (1, 3), "channels", f"must be 1 (grey) or 3 (RGB), got {self.channels}")
        OwnData.__post_init__(self)
        problem = f"must be above image_size ({self.image_size}; null takes just that), got {self.resize}"
        check(self.resize is None or self.resize > self.image_size, "resize", problem)

    @property
    def label(self) -> str:
        """The name, and the beginning of the digest."""
        return f"{self.name} {self.digest[:DIGEST_SHOWN]}"

    @property
    def spec(self) -> DataSpec:
        """The facts, from the options."""
        described = super(ImageFolder, self).spec  # slots=True makes a new class, unknown to super()
        return dataclasses.replace(described, streamed=self.stream)

    def class_names(self, data_dir: Path) -> tuple[str, ...] | None:
        """Return the names of the folders, or None if only the decoded images are left."""
        try:
            return shown_names(self._root(data_dir) / "train")
        except DataError:
            return None

    def decode(self, data_dir: Path, work_dir: Path) -> Images | ImageFiles:
        """Decode every image, into unnamed temporary files in `work_dir`. With `stream`, only find them.

        Raises:
            DataError: no folder has the digest, its files differ from the options, or some cannot be
                decoded.
        """
        files = self._files(data_dir)
        if self.stream:
            return files
        train_x, test_x = (
            self._decoded([files.source.root / os.fsdecode(path) for path in paths], work_dir)
            for paths in (files.train_x, files.test_x)
        )
        return Images(train_x, files.train_y, test_x, files.test_y)

    def _files(self, data_dir: Path) -> ImageFiles:
        root = self._root(data_dir)
        train_dir, test_dir = split_folders(root)
        classes = class_names(train_dir)
        self._demand(len(classes) == self.num_classes, train_dir, f"{len(classes)} classes", "num_classes")
        if others := sorted(set(class_names(test_dir)) - set(classes)):
            problem = f"{test_dir} has classes that train has not: {listed(others)}"
            raise DataError(f"data set 'image_folder': {problem}")
        train, test = (labelled(root, folder.name, classes) for folder in (train_dir, test_dir))
        self._demand(len(train[1]) == self.num_train, train_dir, f"{len(train[1])} images", "num_train")
        self._demand(len(test[1]) == self.num_test, test_dir, f"{len(test[1])} images", "num_test")
        source = Source(root, self.channels, self.resize or self.image_size, self.image_size)
        return ImageFiles(source, *train, *test)

    def _root(self, data_dir: Path) -> Path:
        parent = data_dir / FOLDER
        candidates = sorted(path for path in parent.glob("*") if split_folders(path))
        what = f"data set 'image_folder': no folder in {parent} has digest"
        return find(candidates, self.digest, digest_of, what)

    def _demand(self, condition: bool, folder: Path, found: str, option: str) -> None:
        if not condition:
            problem = f"{folder} has {found}, {option} says {getattr(self, option)}"
            raise DataError(f"data set 'image_folder': {problem}")

    def _decoded(self, paths: list[Path], work_dir: Path) -> np.ndarray:
        """Return a memory map (N, C, H, W), so that the images need not fit into memory."""
        import numpy as np

        broken: list[str] = []
        chunks = (paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK))
        # threads are enough: Pillow releases the interpreter's lock to decode and resize
        with tempfile.TemporaryFile(dir=work_dir) as file, ThreadPool() as pool:
            for pixels, problems in pool.imap(self._chunk, chunks):
                file.write(pixels.data)
                broken += problems
            if broken:
                raise DataError(f"data set 'image_folder': cannot decode {listed(broken)}")
            file.flush()
            size = (len(paths), self.channels, self.image_size, self.image_size)
            return np.memmap(file, np.uint8, "r", shape=size)

    def _chunk(self, paths: list[Path]) -> tuple[np.ndarray, list[str]]:
        size, resize = self.image_size, self.resize or self.image_size
        return decoded(paths, self.channels, size, lambda image, _: (centre(image, resize, size),))


def digest_of(root: Path) -> str:
    """Return 16 hex digits of the names and sizes of a folder's images, training and test set.

    Contents are not read: an image that is edited without changing its size goes unnoticed.
    """
    digest = hashlib.sha256()
    for folder in split_folders(root):
        for name in class_names(folder):
            for image in image_names(folder / name):
                path = f"{folder.name}/{name}/{image}"
                digest.update(os.fsencode(path) + b"\0%d\n" % (root / path).stat().st_size)
    return digest.hexdigest()[:16]


def split_folders(root: Path) -> list[Path]:
    """Return the folders of the training and the test set, or none if one is missing."""
    tests = [root / name for name in TEST_FOLDERS if (root / name).is_dir()]
    return [root / "train", tests[0]] if tests and (root / "train").is_dir() else []
