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
    """Each image is mirrored with `probability`."""

    stage: ClassVar[Stage] = "flip"
    probability: float = 0.5

    def __post_init__(self) -> None:
        check(0 <= self.probability <= 1, "probability", f"must be in 0..1, got {self.probability}")

    def draw(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> torch.Tensor:
        """Draw (N,) booleans: mirror or not."""
        import torch

        return torch.rand(shape[0], generator=generator, device=generator.device) < self.probability

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return images.flip(3).where(draws.view(-1, 1, 1, 1), images)
