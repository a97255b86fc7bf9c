"""Random Erasing (Zhong et al., arXiv:1708.04896)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.augmentations import ImageAugmentation, Stage, augmentations
from trainer.schema import check

if TYPE_CHECKING:
    import torch

TRIES = 20
"""Rectangles to try for an image before leaving it as it is."""


@augmentations.register("random_erasing")
@dataclass(frozen=True, kw_only=True, slots=True)
class RandomErasing(ImageAugmentation):
    """One rectangle of an image is filled with one random value.

    Area and aspect ratio are drawn uniformly, and the sides rounded. The first of several tries that is
    both lower and narrower than the image is used, anywhere inside the image. As in the repository behind
    the published tables, the fill value is uniform in 0..1 on the normalised image and the same in all
    channels. (In the paper each pixel has its own random value.) Unlike there, the rectangle may reach the
    last row and column.
    """

    stage: ClassVar[Stage] = "erase"
    probability: float = 0.5
    """Share of the images that get a rectangle."""
    min_area: float = 0.02
    """A fraction of the image's area, like `max_area`."""
    max_area: float = 0.4
    """A fraction of the image's area."""
    min_aspect: float = 0.3
    """Least height / width; the greatest is its inverse."""

    def __post_init__(self) -> None:
        check(0 <= self.probability <= 1, "probability", f"must be in 0..1, got {self.probability}")
        check(0 <= self.min_area <= 1, "min_area", f"must be in 0..1, got {self.min_area}")
        problem = f"must be in min_area..1 ({self.min_area:g}..1), got {self.max_area}"
        check(self.min_area <= self.max_area <= 1, "max_area", problem)
        check(0 < self.min_aspect <= 1, "min_aspect", f"must be > 0 and <= 1, got {self.min_aspect}")

    def draw(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> torch.Tensor:
        """Draw (N, 5): top, left, bottom, right and fill value; an empty box leaves the image as it is."""
        import torch

        from trainer.augmentations._draws import integers_below

        n, _, height, width = shape
        u = torch.rand((2, n, TRIES), generator=generator, device=generator.device)
        area = (self.min_area + (self.max_area - self.min_area) * u[0]) * (height * width)
        aspect = self.min_aspect + (1 / self.min_aspect - self.min_aspect) * u[1]
        heights, widths = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()  # (N, TRIES)
        fits = (heights < height) & (widths < width)
        first = fits.int().argmax(1, keepdim=True)  # argmax returns the first of equal values
        h, w = heights.gather(1, first)[:, 0], widths.gather(1, first)[:, 0]

        erased = torch.rand(n, generator=generator, device=generator.device) < self.probability
        erased &= fits.any(1)
        top, left = integers_below(height - h + 1, generator), integers_below(width - w + 1, generator)
        boxes = torch.stack([top, left, top + h, left + w], 1) * erased[:, None]
        fill = torch.rand((n, 1), generator=generator, device=generator.device)
        return torch.cat([boxes, fill], 1)

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        import torch

        from trainer.augmentations import _boxes

        mask = _boxes.mask(draws[:, :4], *images.shape[2:])[:, None]
        return torch.where(mask, draws[:, 4, None, None, None].to(images.dtype), images)
