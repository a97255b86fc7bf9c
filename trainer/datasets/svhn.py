"""Street View House Numbers (Netzer et al., 2011), cropped digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.datasets import DatasetOptions, DataSpec, Images, datasets

if TYPE_CHECKING:
    from pathlib import Path


@datasets.register("svhn")
@dataclass(frozen=True, kw_only=True, slots=True)
class Svhn(DatasetOptions):
    """32x32 house numbers in colour, 10 classes (the label is the digit)."""

    extra: bool = False
    """Train also on the 531,131 easier images, which follow the 73,257 of the training set."""

    @property
    def label(self) -> str:
        """The name, which says if the extra images are used."""
        return "SVHN with extra images" if self.extra else "SVHN"

    @property
    def spec(self) -> DataSpec:
        """The facts; mean and std are those of the training images."""
        mean, std = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
        if self.extra:
            mean, std = (0.4309, 0.4302, 0.4463), (0.1965, 0.1983, 0.1994)
        return DataSpec(
            num_classes=10,
            channels=3,
            image_size=32,
            num_train=604_388 if self.extra else 73_257,
            num_test=26_032,
            mean=mean,
            std=std,
        )

    def decode(self, data_dir: Path, work_dir: Path) -> Images:
        """Read `train_32x32.mat`, `test_32x32.mat` and `extra_32x32.mat` from the data directory."""
        import numpy as np
        from torchvision.datasets import SVHN

        from trainer.datasets._archives import staged

        parts = ["train", "test", *(["extra"] if self.extra else [])]
        archives = {file: md5 for _, file, md5 in (SVHN.split_list[part] for part in parts)}
        with staged(self.name, archives, {}, data_dir, work_dir) as root:
            found = {part: SVHN(root, split=part, download=True) for part in parts}
        test = found.pop("test")
        # torchvision: (N, C, H, W), a transposed view; concatenate copies it
        return Images(
            np.concatenate([part.data for part in found.values()]),
            np.concatenate([part.labels for part in found.values()]),
            np.ascontiguousarray(test.data),
            test.labels,
        )
