"""Random brightness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.augmentations import ImageAugmentation, Stage, augmentations
from trainer.schema import check

if TYPE_CHECKING:
    import torch


@augmentations.register("brightness")
@dataclass(frozen=True, kw_only=True, slots=True)
class Brightness(ImageAugmentation):
    """One number from -amount..amount is added to all of a normalised image (hiverge/cifar10-speedrun)."""

    stage: ClassVar[Stage] = "colour"
    amount: float = 0.1
    """In standard deviations of the pixels."""

    def __post_init__(self) -> None:
        check(self.amount >= 0, "amount", f"must be >= 0, got {self.amount}")

    def draw(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> torch.Tensor:
        """Draw the (N,) numbers."""
        from trainer.augmentations._draws import uniform

        return uniform(self.amount, shape[0], generator)

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return images + draws.view(-1, 1, 1, 1)
