"""What the user's own data sets have in common. Torch-free.

A config describes such a data set by its options and a digest of its content, because results depend on
them. They do not depend on its name or place: it is searched for in one folder of the data directory, so
you can rename it or move it to another machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from trainer.datasets import DataError, DatasetOptions, DataSpec
from trainer.schema import check

DIGEST_SHOWN = 8
"""Digits of the digest in a label, enough to tell data sets apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnData(DatasetOptions):
    """A data set that is described by its options."""

    num_classes: int
    """Number of classes."""
    channels: int = 3
    """1 (grey) or 3 (RGB)."""
    image_size: int
    """Height and width, pixels."""
    num_train: int
    """Number of training images."""
    num_test: int
    """Number of test images."""
    mean: tuple[float, ...]
    """Per channel, of pixels scaled to 0..1."""
    std: tuple[float, ...]
    """Standard deviation per channel, of pixels scaled to 0..1."""

    def __post_init__(self) -> None:
        for name in ("num_classes", "channels", "image_size", "num_train", "num_test"):
            check(getattr(self, name) > 0, name, f"must be > 0, got {getattr(self, name)}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            problem = f"must have one value a channel ({self.channels}), got {len(values)}"
            check(len(values) == self.channels, name, problem)
        problem = f"must be in 0..1 (of pixels scaled to 0..1), got {list(self.mean)}"
        check(all(0 <= value <= 1 for value in self.mean), "mean", problem)
        problem = f"must be > 0 and <= 1 (of pixels scaled to 0..1), got {list(self.std)}"
        check(all(0 < value <= 1 for value in self.std), "std", problem)

    @property
    def spec(self) -> DataSpec:
        """The facts, from the options."""
        names = ("num_classes", "channels", "image_size", "num_train", "num_test", "mean", "std")
        return DataSpec(**{name: getattr(self, name) for name in names})


def check_hex(name: str, digits: str, length: int) -> None:
    """Raise ConfigError unless `digits` are `length` hexadecimal digits in lower case."""
    problem = f"must be {length} hexadecimal digits in lower case, got {digits!r}"
    check(re.fullmatch(f"[0-9a-f]{{{length}}}", digits) is not None, name, problem)


def find(candidates: Iterable[Path], digest: str, digest_of: Callable[[Path], str], what: str) -> Path:
    """Return the first candidate with that digest.

    Raises:
        DataError: no candidate has it. The message begins with `what`, and gives the digest of each.
    """
    others = []
    for path in candidates:
        try:
            found = digest_of(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        if found == digest:
            return path
        others.append(f"{path.name} has {found}")
    raise DataError(f"{what} {digest}: {', '.join(others) or 'none is there'}")
