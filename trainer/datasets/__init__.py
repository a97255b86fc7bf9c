"""Data sets: the facts about each, without torch, so that a grid can be checked; and how to decode it."""

from __future__ import annotations

import abc
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from trainer.registry import Options, Registry
from trainer.schema import defaults, field_types

if TYPE_CHECKING:
    import numpy as np

datasets: Registry[DatasetOptions] = Registry("dataset", __name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSpec:
    """Facts about a data set, to check a config against."""

    num_classes: int
    channels: int
    image_size: int
    """Height and width, pixels."""
    num_train: int
    num_test: int
    mean: tuple[float, ...]
    """Per channel, of pixels scaled to 0..1."""
    std: tuple[float, ...]
    streamed: bool = False
    """Whether the images stay files, which worker processes decode each time they are used."""


class Images(NamedTuple):
    """A decoded data set, or a memory map of one."""

    train_x: np.ndarray  # (N, C, H, W) uint8
    train_y: np.ndarray  # (N,) int64
    test_x: np.ndarray
    test_y: np.ndarray


class Source(NamedTuple):
    """Where the image files of a streamed data set are, and their size for the network."""

    root: Path
    channels: int
    resize: int
    """Length of the shorter side before the centre is cut out, pixels."""
    image_size: int


class ImageFiles(NamedTuple):
    """A streamed data set."""

    source: Source
    train_x: np.ndarray  # (N,) bytes, paths below the root
    train_y: np.ndarray  # (N,) int64
    test_x: np.ndarray
    test_y: np.ndarray


class DataError(RuntimeError):
    """A data set is not available on this machine. The message says what to do.

    It also names the file whose error caused it, and where that points if it is a link.
    """

    def __str__(self) -> str:
        said, file = super().__str__(), getattr(self.__cause__, "filename", None)
        if not isinstance(file, str | Path) or not os.path.lexists(file) or str(file) in said:
            return said
        target = f", a link to {Path(file).readlink()}" if Path(file).is_symlink() else ""
        return f"{said} ({file}{target})"


class DatasetOptions(Options, abc.ABC):
    """One data set."""

    registry: ClassVar[Registry[DatasetOptions]] = datasets
    classes: ClassVar[tuple[str, ...] | None] = None
    """Names of the classes, in the order of their labels. None: they have numbers, or files name them."""
    __slots__ = ()

    @property
    def label(self) -> str:
        """The data set's name as tables and titles print it, such as `CIFAR-10`."""
        return self.name

    def class_names(self, data_dir: Path) -> tuple[str, ...] | None:
        """Return the names of the classes, from the user's files if need be; None if they are not known."""
        return self.classes

    @property
    @abc.abstractmethod
    def spec(self) -> DataSpec:
        """The facts about the data set."""

    @abc.abstractmethod
    def decode(self, data_dir: Path, work_dir: Path) -> Images | ImageFiles:
        """Read the whole data set, or find its files if it is streamed. Download what is missing.

        Args:
            data_dir: where the user keeps original archives; never written to.
            work_dir: an existing directory for downloads, kept between calls.

        Raises:
            DataError: the archives are missing and cannot be downloaded, or are damaged.
        """


def published() -> list[str]:
    """Return the names of the data sets without required options, that is, without the user's own."""
    return [name for name in datasets.names() if _needs_nothing(datasets.get(name))]


def _needs_nothing(dataset: type[DatasetOptions]) -> bool:
    return set(field_types(dataset)) == set(defaults(dataset))
