"""Data sets ready to train on: decoded once on each machine and shared by its trials as memory maps.

Of a streamed data set, whose images stay files, only the files are looked up here. Beside this module:
`splits` (parts of a training set), `stream` (images decoded batch by batch) and `pipeline` (batches).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING

from trainer import files
from trainer.datasets import DataError, DatasetOptions, DataSpec, ImageFiles, Images
from trainer.schema import canonical

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
"""Part of every cache key. Raise it when the cached files change, or what a data set decodes to."""


def load(dataset: DatasetOptions, data_dir: Path, cache_dir: Path) -> Images | ImageFiles:
    """Return a data set as memory maps, decoded first if it is not in the cache; or its files, if streamed.

    The maps are private: what you write to one changes neither the files nor what others see. If several
    processes ask at once, one of them decodes. A damaged or unfinished cache is made again; each process
    checks the digests of the arrays once.

    Args:
        dataset: which one.
        data_dir: where the user keeps original archives; never written to.
        cache_dir: where to write, into `datasets/` and `downloads/`.

    Raises:
        DataError: the data set is not available, or `cache_dir` cannot be written.
    """
    from filelock import FileLock

    if dataset.spec.streamed:
        try:
            found = dataset.decode(data_dir, cache_dir)
        except OSError as error:
            raise DataError(f"data set {dataset.name!r} cannot be read: {error}") from error
        _check_labels(found, dataset)
        return found
    folder = _folder(dataset, cache_dir)
    if images := _open_sound(folder, dataset.spec):
        return images
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{dataset.name}.lock"):
            if not _open_sound(folder, dataset.spec):
                _prepare(dataset, data_dir, cache_dir)
    except OSError as error:
        problem = f"cannot be decoded into {cache_dir}: {error}. Choose another cache directory."
        raise DataError(f"data set {dataset.name!r} {problem}") from error
    images = _open_sound(folder, dataset.spec)
    if not images:
        raise DataError(f"the decoded data set in {folder} cannot be read back")
    return images


def is_cached(dataset: DatasetOptions, cache_dir: Path) -> bool:
    """Return whether the data set is already decoded. Reads only the files' headers.

    False for a streamed data set: only `load` can tell whether its files are there.
    """
    return not dataset.spec.streamed and _open(_folder(dataset, cache_dir), dataset.spec) is not None


def _folder(dataset: DatasetOptions, cache_dir: Path) -> Path:
    key = f"{dataset.name}-v{FORMAT}"
    if options := canonical(dataset):
        key += "-" + hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]
    return cache_dir / "datasets" / key


def _open(folder: Path, spec: DataSpec) -> Images | None:
    """Map the four files; None if one is missing, cut short or not as in the spec."""
    import numpy as np

    try:
        # open_memmap, unlike np.load, reads neither zip files nor pickles. Mode "c" (copy on write) gives the
        # writable arrays that torch wants, and leaves the file as it is.
        maps = [np.lib.format.open_memmap(folder / f"{part}.npy", mode="c") for part in Images._fields]
    except Exception:  # a damaged header raises almost anything
        return None
    images = Images(*maps)
    return images if _fits(images, spec) else None


_DIGESTS = "digests.json"
_BLOCK = 2**24
_sound: dict[Path, tuple[tuple[int, int, int], ...]] = {}
"""Caches whose digests this process has checked: inode, time and size of their files then."""


def _open_sound(folder: Path, spec: DataSpec) -> Images | None:
    """Map the four files as `_open` does; None also if their bytes are not those that were written.

    A wrong byte would show in the results alone. The cache of an older version has no digests, and is made
    again.
    """
    images = _open(folder, spec)
    if not images:
        return None
    paths = {part: folder / f"{part}.npy" for part in Images._fields}
    try:
        found = tuple((s.st_ino, s.st_mtime_ns, s.st_size) for s in (path.stat() for path in paths.values()))
        if _sound.get(folder) != found:
            digests = json.loads((folder / _DIGESTS).read_text(encoding="utf-8"))
            if digests != {part: _digest(path) for part, path in paths.items()}:
                return None
            _sound[folder] = found
    except (OSError, ValueError, RecursionError):
        return None
    return images


def _digest(path: Path) -> str:
    content = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):  # a large set need not fit into memory
            content.update(block)
    return content.hexdigest()


def _check_labels(images: Images | ImageFiles, dataset: DatasetOptions) -> None:
    """Raise DataError if a label is none of the classes."""
    last = dataset.spec.num_classes - 1
    for labels in (images.train_y, images.test_y):
        for label in (labels.min(), labels.max()) if len(labels) else ():
            if not 0 <= label <= last:
                raise DataError(f"data set {dataset.name!r} has a label {label}; its classes are 0..{last}")


def _fits(images: Images, spec: DataSpec) -> bool:
    size = (spec.channels, spec.image_size, spec.image_size)
    shapes = [(spec.num_train, *size), (spec.num_train,), (spec.num_test, *size), (spec.num_test,)]
    dtypes = ["uint8", "int64", "uint8", "int64"]
    return [array.shape for array in images] == shapes and [str(array.dtype) for array in images] == dtypes


def _prepare(dataset: DatasetOptions, data_dir: Path, cache_dir: Path) -> None:
    """Decode into a temporary directory, then move it into place. The caller holds the lock."""
    import numpy as np

    folder = _folder(dataset, cache_dir)
    partial = folder.with_name(f".{folder.name}.partial")
    downloads = cache_dir / "downloads"
    downloads.mkdir(exist_ok=True)
    images = dataset.decode(data_dir, downloads)
    assert isinstance(images, Images)
    _check_labels(images, dataset)
    if not _fits(images, dataset.spec):
        found = ", ".join(f"{part} {array.shape}" for part, array in zip(images._fields, images, strict=True))
        problem = f"are not the published ones: they hold {found}"
        raise DataError(f"the files of data set {dataset.name!r} {problem}")

    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    partial.mkdir()
    for part, array in zip(images._fields, images, strict=True):
        np.save(partial / f"{part}.npy", array, allow_pickle=False)
    digests = {part: _digest(partial / f"{part}.npy") for part in Images._fields}
    (partial / _DIGESTS).write_text(json.dumps(digests), encoding="utf-8")
    # The old directory is damaged. A process that has its files mapped keeps them.
    files.commit_directory(partial, folder)
