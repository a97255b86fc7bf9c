"""Data sets ready to train on.

Small images are decoded once a machine and shared by every trial as memory maps; of data sets that are
streamed only the files are looked up.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

from trainer import files
from trainer.datasets import DataError, DatasetOptions, DataSpec, ImageFiles, Images
from trainer.schema import canonical

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
"""Part of every cache key. Raise it when the cached files change, or what a data set decodes to."""


def load(dataset: DatasetOptions, data_dir: Path, cache_dir: Path) -> Images | ImageFiles:
    """Return the data set as memory maps, decoding it first if nobody has yet; or its files, if streamed.

    The maps are private: writing to one changes neither the files nor what others see. Processes
    that ask at once prepare it once. What a killed process left, or a damaged cache, is made anew.

    Args:
        dataset: which.
        data_dir: where the user keeps original archives; never written to.
        cache_dir: written to: `datasets/` and `downloads/`.

    Raises:
        DataError: the data set is not to be had, or `cache_dir` cannot be written.
    """
    if dataset.spec.streamed:
        return _files(dataset, data_dir, cache_dir)
    folder = _folder(dataset, cache_dir)
    if images := _open(folder, dataset.spec):
        return images
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{dataset.name}.lock"):
            if not _open(folder, dataset.spec):
                _prepare(dataset, data_dir, cache_dir)
    except OSError as error:
        raise DataError(
            f"data set {dataset.name!r} cannot be decoded into {cache_dir}: {error}. "
            "GRIDRUN_CACHE chooses another directory."
        ) from error
    images = _open(folder, dataset.spec)
    if not images:
        raise DataError(f"the decoded data set in {folder} cannot be read back")
    return images


def is_cached(dataset: DatasetOptions, cache_dir: Path) -> bool:
    """Return whether `load` would find the data set decoded. Reads only the files' headers.

    Never of one that is streamed: only `load` can tell whether its files are there.
    """
    return not dataset.spec.streamed and _open(_folder(dataset, cache_dir), dataset.spec) is not None


def _files(dataset: DatasetOptions, data_dir: Path, cache_dir: Path) -> ImageFiles:
    try:
        found = dataset.decode(data_dir, cache_dir)
    except OSError as error:
        raise DataError(f"data set {dataset.name!r} cannot be read: {error}") from error
    assert isinstance(found, ImageFiles)
    return found


def _folder(dataset: DatasetOptions, cache_dir: Path) -> Path:
    key = f"{dataset.name}-v{FORMAT}"
    if options := canonical(dataset):
        key += "-" + hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]
    return cache_dir / "datasets" / key


def _open(folder: Path, spec: DataSpec) -> Images | None:
    """Map the four files; None if one is absent, cut short or not what the spec says."""
    try:
        # Unlike np.load, takes neither a zip nor a pickle. Copy on write: torch takes only writable
        # arrays, and the file cannot come to harm.
        maps = [np.lib.format.open_memmap(folder / f"{part}.npy", mode="c") for part in Images._fields]
    except Exception:  # a damaged header raises nearly anything
        return None
    images = Images(*maps)
    return images if _fits(images, spec) else None


def _fits(images: Images, spec: DataSpec) -> bool:
    size = (spec.channels, spec.image_size, spec.image_size)
    shapes = [(spec.num_train, *size), (spec.num_train,), (spec.num_test, *size), (spec.num_test,)]
    dtypes = [np.uint8, np.int64, np.uint8, np.int64]
    return [array.shape for array in images] == shapes and [array.dtype for array in images] == dtypes


def _prepare(dataset: DatasetOptions, data_dir: Path, cache_dir: Path) -> None:
    """Decode into a directory of its own, then move it into place whole. The caller holds the lock."""
    folder = _folder(dataset, cache_dir)
    partial = folder.with_name(f".{folder.name}.partial")
    downloads = cache_dir / "downloads"
    downloads.mkdir(exist_ok=True)
    images = dataset.decode(data_dir, downloads)
    assert isinstance(images, Images)
    if not _fits(images, dataset.spec):
        found = ", ".join(f"{part} {array.shape}" for part, array in zip(images._fields, images, strict=True))
        raise DataError(
            f"the files of data set {dataset.name!r} are not the published ones: they hold {found}"
        )

    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    partial.mkdir()
    for part, array in zip(images._fields, images, strict=True):
        np.save(partial / f"{part}.npy", array, allow_pickle=False)
    # The old directory is damaged. A process that has its files mapped keeps them.
    files.commit_directory(partial, folder)
