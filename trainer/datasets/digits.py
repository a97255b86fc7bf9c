"""Scikit-learn's digits: 1,797 tiny images that ship with the package, so nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.datasets import DatasetOptions, DataSpec, Images, datasets

if TYPE_CHECKING:
    from pathlib import Path

TEST_EVERY = 5


@datasets.register("digits")
@dataclass(frozen=True, kw_only=True, slots=True)
class Digits(DatasetOptions):
    """UCI optical recognition of handwritten digits, its test part, as scikit-learn ships it.

    It has no published split. Our test set is every fifth image of each class, in file order, which needs no
    random numbers and keeps the classes balanced.
    """

    spec: ClassVar[DataSpec] = DataSpec(
        num_classes=10, channels=1, image_size=8, num_train=1442, num_test=355, mean=(0.3052,), std=(0.3760,)
    )

    def decode(self, data_dir: Path, work_dir: Path) -> Images:
        """Read the images from the installed scikit-learn; both directories stay as they are."""
        import numpy as np
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        x = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)  # 0..16 to 0..255
        y = labels.astype(np.int64)
        test = np.zeros(len(y), dtype=bool)
        for label in range(self.spec.num_classes):
            test[np.flatnonzero(y == label)[TEST_EVERY - 1 :: TEST_EVERY]] = True
        return Images(x[~test], y[~test], x[test], y[test])
