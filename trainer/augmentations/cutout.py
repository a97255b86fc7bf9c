"""Cutout (DeVries & Taylor, arXiv:1708.04552)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.augmentations import ImageAugmentation, Stage, augmentations
from trainer.schema import check

if TYPE_CHECKING:
    import torch

    from trainer.datasets import DataSpec


@augmentations.register("cutout")
@dataclass(frozen=True, kw_only=True, slots=True)
class Cutout(ImageAugmentation):
    """One square of each normalised image becomes 0, the mean colour.

    The centre c is any pixel of the image, and the square covers `size` pixels from c - size // 2 on, so it
    may cross the border, as in the paper. (In the repository behind the published tables, the centre of an
    even square may also lie on the image's far edge.)
    """

    stage: ClassVar[Stage] = "erase"
    size: int = 16
    """Side, pixels."""
    probability: float = 1.0
    """Share of the images that get a square."""
    inside: bool = False
    """Whether the whole square must lie within the image."""

    def __post_init__(self) -> None:
        check(self.size >= 0, "size", f"must be >= 0, got {self.size}")
        check(0 <= self.probability <= 1, "probability", f"must be in 0..1, got {self.probability}")

    def check(self, data: DataSpec) -> None:
        problem = f"must be <= {data.image_size} to lie inside the image, got {self.size}"
        check(not self.inside or self.size <= data.image_size, "size", problem)

    def draw(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> torch.Tensor:
        """Draw (N, 4) boxes: top, left, bottom, right. An empty box leaves an image as it is."""
        import torch

        n, _, height, width = shape

        def corners(length: int) -> torch.Tensor:
            places, first = (length - self.size + 1, 0) if self.inside else (length, -(self.size // 2))
            return torch.randint(first, first + places, (n,), generator=generator, device=generator.device)

        top, left = corners(height), corners(width)
        cut = torch.rand(n, generator=generator, device=generator.device) < self.probability
        return torch.stack([top, left, top + self.size, left + self.size], 1) * cut[:, None]

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        from trainer.augmentations import _boxes

        return images * ~_boxes.mask(draws, *images.shape[2:])[:, None]
