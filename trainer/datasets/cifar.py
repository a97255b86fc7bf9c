"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009)."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.datasets import DatasetOptions, DataSpec, Images, datasets

if TYPE_CHECKING:
    from pathlib import Path

CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal
shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank
telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


class Cifar(DatasetOptions):
    """One archive of pickled batches, read by a class of torchvision."""

    __slots__ = ()
    source: ClassVar[str]
    """Name of the torchvision class."""

    def decode(self, data_dir: Path, work_dir: Path) -> Images:
        """Read `cifar-*-python.tar.gz`, or the folder unpacked beside it, from the data directory."""
        import numpy as np
        import torchvision

        from trainer.datasets._archives import staged

        dataset = getattr(torchvision.datasets, self.source)
        members = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
        archives = {dataset.filename: dataset.tgz_md5}
        unpacked = {f"{dataset.base_folder}/{file}": md5 for file, md5 in members}
        with staged(self.name, archives, unpacked, data_dir, work_dir) as root, warnings.catch_warnings():
            # NumPy 2.4.0 to 2.4.4 warn of pickles as old as these
            warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
            train = dataset(root, train=True, download=True)
            test = dataset(root, train=False, download=True)
        # torchvision: (N, H, W, C)
        return Images(
            np.ascontiguousarray(train.data.transpose(0, 3, 1, 2)),
            np.asarray(train.targets, dtype=np.int64),
            np.ascontiguousarray(test.data.transpose(0, 3, 1, 2)),
            np.asarray(test.targets, dtype=np.int64),
        )


@datasets.register("cifar10")
@dataclass(frozen=True, kw_only=True, slots=True)
class Cifar10(Cifar):
    """32x32 colour photographs, 10 classes."""

    label: ClassVar[str] = "CIFAR-10"
    classes: ClassVar[tuple[str, ...]] = tuple(CIFAR10_CLASSES.split())
    source: ClassVar[str] = "CIFAR10"
    spec: ClassVar[DataSpec] = DataSpec(
        num_classes=10,
        channels=3,
        image_size=32,
        num_train=50_000,
        num_test=10_000,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    )


@datasets.register("cifar100")
@dataclass(frozen=True, kw_only=True, slots=True)
class Cifar100(Cifar):
    """32x32 colour photographs, 100 classes (the fine labels)."""

    label: ClassVar[str] = "CIFAR-100"
    classes: ClassVar[tuple[str, ...]] = tuple(CIFAR100_CLASSES.split())
    source: ClassVar[str] = "CIFAR100"
    spec: ClassVar[DataSpec] = dataclasses.replace(
        Cifar10.spec, num_classes=100, mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)
    )
