"""The user's own arrays, in one .npz file."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.datasets import DataError, Images, datasets
from trainer.datasets._own import DIGEST_SHOWN, OwnData, check_hex, find

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from trainer.datasets import DataSpec

FOLDER = "npz"
"""Below the data directory."""
MAX_ITEM_BYTES = 8
"""Of a pixel, before its type is checked."""
MAX_HEADER_BYTES = 2**20


@datasets.register("npz")
@dataclass(frozen=True, kw_only=True, slots=True)
class Npz(OwnData):
    """Own arrays: train_x, train_y, test_x, test_y in a file `npz/*.npz` of the data directory.

    Images are uint8, (N, C, H, W), height and width equal; labels are integers, (N,), from 0.
    """

    sha256: str
    """SHA-256 of the file, as `sha256sum` prints it. The file is found by it, not by its name."""

    def __post_init__(self) -> None:
        check_hex("sha256", self.sha256, 64)
        OwnData.__post_init__(self)

    @property
    def label(self) -> str:
        """The name, and the beginning of the digest."""
        return f"{self.name} {self.sha256[:DIGEST_SHOWN]}"

    def decode(self, data_dir: Path, work_dir: Path) -> Images:
        """Read the file and check it against the options; `work_dir` stays as it is.

        Raises:
            DataError: no file has the digest, or its arrays differ from the options.
        """
        folder = data_dir / FOLDER
        what = f"data set 'npz': no .npz file in {folder} has sha256"
        path = find(sorted(folder.glob("*.npz")), self.sha256, sha256_of, what)
        return self._checked(_read(path, self.spec), path)

    def _checked(self, images: Images, path: Path) -> Images:
        """Return the images with int64 labels."""
        for part, number in (("train", self.num_train), ("test", self.num_test)):
            x, y = getattr(images, f"{part}_x"), getattr(images, f"{part}_y")
            size = (number, self.channels, self.image_size, self.image_size)
            _demand(x.dtype == "uint8", path, f"{part}_x", f"must be uint8, is {x.dtype}")
            problem = f"must be {size}, that is (N, C, H, W), is {x.shape}{_advice(x.shape, size)}"
            _demand(x.shape == size, path, f"{part}_x", problem)
            _demand(y.dtype.kind in "iu", path, f"{part}_y", f"must be integers, is {y.dtype}")
            _demand(y.shape == size[:1], path, f"{part}_y", f"must be {size[:1]}, is {y.shape}")
            problem = f"must be labels in 0..{self.num_classes - 1}, has {y.min()}..{y.max()}"
            _demand(bool(((y >= 0) & (y < self.num_classes)).all()), path, f"{part}_y", problem)
        return images._replace(train_y=images.train_y.astype("int64"), test_y=images.test_y.astype("int64"))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            sha256.update(chunk)
    return sha256.hexdigest()


def _read(path: Path, spec: DataSpec) -> Images:
    """Read a file that nobody has checked: no more of it than images of this size can be."""
    import numpy as np

    if not zipfile.is_zipfile(path):  # np.load would complain about a pickle
        raise DataError(f"data set 'npz': {path} is not a .npz file, or not a whole one")
    found: dict[str, np.ndarray] = {}
    name = "its directory"
    try:
        with zipfile.ZipFile(path) as archive:
            pixels = max(spec.num_train, spec.num_test) * spec.channels * spec.image_size**2
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                fits = member.file_size <= MAX_ITEM_BYTES * pixels + MAX_HEADER_BYTES
                problem = f"unpacks to {member.file_size:,} bytes, more than {pixels:,} pixels can be"
                _demand(fits or name not in Images._fields, path, name, problem)
        name = "its directory"
        with np.load(path, allow_pickle=False) as arrays:
            for name in Images._fields:
                there = ", ".join(arrays.files) or "none"
                _demand(name in arrays.files, path, name, f"is missing; there are: {there}")
                found[name] = np.ascontiguousarray(arrays[name])
    except DataError:
        raise
    except Exception as error:  # damaged and hostile files raise almost anything
        raise DataError(f"data set 'npz': {path}: {name}: cannot be read: {error}") from error
    return Images(**found)


def _demand(condition: bool, path: Path, array: str, problem: str) -> None:
    if not condition:
        raise DataError(f"data set 'npz': {path}: {array}: {problem}")


def _advice(found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    n, channels, height, width = wanted
    if found == (n, height, width, channels):
        return "; x.transpose(0, 3, 1, 2) fixes it"
    if found == (n, height, width) and channels == 1:
        return "; x[:, None] fixes it"
    return ""
