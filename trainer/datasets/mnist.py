"""MNIST, and two data sets in its format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.datasets import DatasetOptions, DataSpec, Images, datasets

if TYPE_CHECKING:
    from pathlib import Path


def _spec(mean: float, std: float) -> DataSpec:
    return DataSpec(
        num_classes=10, channels=1, image_size=28, num_train=60_000, num_test=10_000, mean=(mean,), std=(std,)
    )


class MnistLike(DatasetOptions):
    """Four idx files, read by a class of torchvision."""

    __slots__ = ()
    source: ClassVar[str]
    """Name of the torchvision class, and of its folder."""

    def decode(self, data_dir: Path, work_dir: Path) -> Images:
        """Read `<source>/raw/*.gz`, or the files unpacked beside them, from the data directory."""
        import torchvision

        from trainer.datasets._archives import staged

        dataset = getattr(torchvision.datasets, self.source)
        archives = {f"{self.source}/raw/{file}": md5 for file, md5 in dataset.resources}
        unpacked = {path.removesuffix(".gz"): None for path in archives}
        with staged(self.name, archives, unpacked, data_dir, work_dir) as root:
            train = dataset(root, train=True, download=True)
            test = dataset(root, train=False, download=True)
            # torchvision: (N, 28, 28)
            return Images(
                train.data.unsqueeze(1).numpy(),
                train.targets.numpy(),
                test.data.unsqueeze(1).numpy(),
                test.targets.numpy(),
            )


@datasets.register("mnist")
@dataclass(frozen=True, kw_only=True, slots=True)
class Mnist(MnistLike):
    """Handwritten digits (LeCun et al., 1998)."""

    label: ClassVar[str] = "MNIST"
    source: ClassVar[str] = "MNIST"
    spec: ClassVar[DataSpec] = _spec(0.1307, 0.3081)


@datasets.register("fashion_mnist")
@dataclass(frozen=True, kw_only=True, slots=True)
class FashionMnist(MnistLike):
    """Clothes (Xiao et al., arXiv:1708.07747)."""

    label: ClassVar[str] = "FashionMNIST"
    classes: ClassVar[tuple[str, ...]] = (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )
    source: ClassVar[str] = "FashionMNIST"
    spec: ClassVar[DataSpec] = _spec(0.2860, 0.3530)


@datasets.register("kmnist")
@dataclass(frozen=True, kw_only=True, slots=True)
class Kmnist(MnistLike):
    """Cursive Japanese characters (Clanuwat et al., arXiv:1812.01718)."""

    label: ClassVar[str] = "KMNIST"
    classes: ClassVar[tuple[str, ...]] = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    source: ClassVar[str] = "KMNIST"
    spec: ClassVar[DataSpec] = _spec(0.1904, 0.3475)
