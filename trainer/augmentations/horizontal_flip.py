"""Mirror images left to right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.augmentations import ImageAugmentation, Stage, augmentations
from trainer.schema import check

if TYPE_CHECKING:
    import torch


@augmentations.register("horizontal_flip")
@dataclass(frozen=True, kw_only=True, slots=True)
class HorizontalFlip(ImageAugmentation):
    """Each image is mirrored with `probability`.

    With `alternating` (arXiv:2404.00498), a random half of the images is mirrored in the first epoch, the
    other half in the second, and so on: no image is the same twice in a row.
    """

    stage: ClassVar[Stage] = "flip"
    probability: float = 0.5
    """Share of the images that are mirrored."""
    alternating: bool = False
    """Mirror each image in every second epoch."""

    def __post_init__(self) -> None:
        check(0 <= self.probability <= 1, "probability", f"must be in 0..1, got {self.probability}")
        problem = f"must be 0.5 with alternating, got {self.probability}"
        check(not self.alternating or self.probability == 0.5, "probability", problem)

    def draw(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> torch.Tensor:
        """Draw (N,) booleans: mirror or not."""
        import torch

        return torch.rand(shape[0], generator=generator, device=generator.device) < self.probability

    def planned(self, places: torch.Tensor, epoch: int, seed: int) -> torch.Tensor | None:
        from trainer import seeds
        from trainer.augmentations._draws import hashed

        if not self.alternating:
            return None
        return (hashed(places, seeds.stream(seed, "flip")) < 0) ^ (epoch % 2 == 1)

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return images.flip(3).where(draws.view(-1, 1, 1, 1), images)
