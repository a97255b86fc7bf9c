"""Crop at a random place, of random size and aspect ratio (Szegedy et al., arXiv:1409.4842)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.augmentations import FileAugmentation, augmentations
from trainer.schema import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image


@augmentations.register("random_resized_crop")
@dataclass(frozen=True, kw_only=True, slots=True)
class RandomResizedCrop(FileAugmentation):
    """A random part of the image, resized to the network's input size, as in torchvision."""

    scale: tuple[float, float] = (0.08, 1.0)
    """Least and greatest area, as a fraction of the image's."""
    ratio: tuple[float, float] = (0.75, 1.3333333333333333)
    """Least and greatest width / height."""

    def __post_init__(self) -> None:
        low, high = self.scale
        check(0 < low <= high <= 1, "scale", f"must be increasing, > 0 and <= 1, got {list(self.scale)}")
        low, high = self.ratio
        check(0 < low <= high, "ratio", f"must be increasing and > 0, got {list(self.ratio)}")

    def transform(self, image_size: int) -> Callable[[Image.Image], Image.Image]:
        from torchvision.transforms import v2

        crop: Callable[[Image.Image], Image.Image] = v2.RandomResizedCrop(image_size, self.scale, self.ratio)
        return crop
