"""Random contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.augmentations import ImageAugmentation, Stage, augmentations
from trainer.schema import check

if TYPE_CHECKING:
    import torch


@augmentations.register("contrast")
@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast(ImageAugmentation):
    """A normalised image is multiplied by 1 + a number from -amount..amount (hiverge/cifar10-speedrun).

    The centre is the mean colour of the data set, not that of the image. With brightness, that comes first.
    """

    stage: ClassVar[Stage] = "colour"
    amount: float = 0.1
    """Largest change of the factor from 1."""

    def __post_init__(self) -> None:
        check(0 <= self.amount <= 1, "amount", f"must be in 0..1, got {self.amount}")

    def draw(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> torch.Tensor:
        """Draw the (N,) numbers."""
        from trainer.augmentations._draws import uniform

        return uniform(self.amount, shape[0], generator)

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return images * (1 + draws).view(-1, 1, 1, 1)
