"""Data sets: what each is (torch-free, so that a grid can be checked), and how it is decoded."""

from __future__ import annotations

import abc
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
    """The facts about a data set that a config is checked against."""

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
    """Whether the images stay files, decoded by worker processes each time they are used."""


class Images(NamedTuple):
    """A decoded data set, or a memory map of one."""

    train_x: np.ndarray  # (N, C, H, W) uint8
    train_y: np.ndarray  # (N,) int64
    test_x: np.ndarray
    test_y: np.ndarray


class Source(NamedTuple):
    """Where the images of a data set that is streamed are, and how the network sees them."""

    root: Path
    channels: int
    resize: int
    """Pixels of the shorter side, before the centre is cut out."""
    image_size: int


class ImageFiles(NamedTuple):
    """A data set that is streamed."""

    source: Source
    train_x: np.ndarray  # (N,) bytes, paths below the root
    train_y: np.ndarray  # (N,) int64
    test_x: np.ndarray
    test_y: np.ndarray


class DataError(RuntimeError):
    """A data set that is neither on this machine nor to be had; the message says what to do."""


class DatasetOptions(Options, abc.ABC):
    """One data set."""

    registry: ClassVar[Registry[DatasetOptions]] = datasets
    classes: ClassVar[tuple[str, ...] | None] = None
    """What the classes are called, in the order of their labels; None where numbers or files say it."""
    __slots__ = ()

    @property
    def label(self) -> str:
        """The data set's name as tables and titles print it, such as `CIFAR-10`."""
        return self.name

    def class_names(self, data_dir: Path) -> tuple[str, ...] | None:
        """Return `classes`, or what the files in the user's data directory call them."""
        return self.classes

    @property
    @abc.abstractmethod
    def spec(self) -> DataSpec:
        """What the data set is."""

    @abc.abstractmethod
    def decode(self, data_dir: Path, work_dir: Path) -> Images | ImageFiles:
        """Read the whole data set, downloading what is missing; of one that is streamed, find its files.

        Args:
            data_dir: where the user keeps original archives; never written to.
            work_dir: an existing directory for downloads, kept between calls.

        Raises:
            DataError: the archives are missing and cannot be downloaded, or are damaged.
        """


def published() -> list[str]:
    """Return the names of the data sets that need no options, as the user's own do."""
    return [name for name in datasets.names() if _needs_nothing(datasets.get(name))]


def _needs_nothing(dataset: type[DatasetOptions]) -> bool:
    return set(field_types(dataset)) == set(defaults(dataset))
