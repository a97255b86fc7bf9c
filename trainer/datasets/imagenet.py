"""ImageNet, unpacked into one folder of images per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.datasets import DataError, DatasetOptions, DataSpec, ImageFiles, Source, datasets
from trainer.datasets._folders import class_names, labelled, listed, shown_names
from trainer.schema import check

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "imagenet"
"""Below the data directory."""
SPLITS = ("train", "val")


@datasets.register("imagenet")
@dataclass(frozen=True, kw_only=True, slots=True)
class ImageNet(DatasetOptions):
    """The 1,000 classes of ILSVRC 2012 (Russakovsky et al., arXiv:1409.0575), streamed from files.

    The folder `imagenet` of the data directory has the layout of `torchvision.datasets.ImageNet`: `train/`
    and `val/`, each with one folder per class (n01440764 ...). It is not downloaded, because its terms
    require an account. Classes are numbered in the order of their sorted names, as usual.
    """

    label: ClassVar[str] = "ImageNet"

    image_size: int = 224
    """Height and width of the network's input, pixels."""
    resize: int = 256
    """Length of the shorter side before the centre is cut out, pixels; for test images, and for training
    images without `random_resized_crop`."""

    def __post_init__(self) -> None:
        check(self.image_size > 0, "image_size", f"must be > 0, got {self.image_size}")
        problem = f"must be at least image_size ({self.image_size}), got {self.resize}"
        check(self.resize >= self.image_size, "resize", problem)

    @property
    def spec(self) -> DataSpec:
        """The facts about the data set, at this size."""
        return DataSpec(
            num_classes=1000,
            channels=3,
            image_size=self.image_size,
            num_train=1_281_167,
            num_test=50_000,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            streamed=True,
        )

    def class_names(self, data_dir: Path) -> tuple[str, ...] | None:
        """Return the names of the folders, which are WordNet ids."""
        return shown_names(data_dir / FOLDER / "train")

    def decode(self, data_dir: Path, work_dir: Path) -> ImageFiles:
        """Find the images; both directories stay as they are.

        Raises:
            DataError: a folder is missing, or its images are not those of the published archives.
        """
        root = data_dir / FOLDER
        for split in SPLITS:
            if not (root / split).is_dir():
                problem = f"there is no folder {root / split}. {_advice(data_dir)}"
                raise DataError(f"data set 'imagenet': {problem}")
        classes, tested = (class_names(root / split) for split in SPLITS)
        _demand_classes(root / "train", classes, self.spec.num_classes, data_dir)
        _demand_classes(root / "val", tested, self.spec.num_classes, data_dir)
        if others := sorted(set(tested) - set(classes)):
            problem = f"{root / 'val'} has classes that train has not: {listed(others)}"
            raise DataError(f"data set 'imagenet': {problem}")
        train, test = (labelled(root, split, classes) for split in SPLITS)
        numbers = self.spec.num_train, self.spec.num_test
        for split, (_, labels), wanted in zip(SPLITS, (train, test), numbers, strict=True):
            if (found := len(labels)) != wanted:
                raise DataError(
                    f"data set 'imagenet': {root / split} has {found:,} images, ImageNet has {wanted:,}. "
                    "An archive is not wholly unpacked, or files were added. For a part of ImageNet, use "
                    "`image_folder` with `stream: true`"
                )
        return ImageFiles(Source(root, self.spec.channels, self.resize, self.image_size), *train, *test)


def _demand_classes(folder: Path, found: Sequence[str], wanted: int, data_dir: Path) -> None:
    if len(found) == wanted:
        return
    loose = next((path.name for path in folder.iterdir() if path.is_file()), None)
    beside = f" and files beside them, such as {loose}" if loose else ""
    raise DataError(
        f"data set 'imagenet': {folder} has {len(found):,} folders of classes{beside}; ImageNet has "
        f"{wanted:,} ({_NAMES}). {_advice(data_dir)}"
    )


_NAMES = "n01440764 to n15075141"


def _advice(data_dir: Path) -> str:
    return (
        f"{data_dir / FOLDER} must have train/ and val/ with one folder of images for each class ({_NAMES}); "
        "or choose another data directory. "
        "torchvision.datasets.ImageNet(root, split), for both splits, makes them of the archives in root"
    )
