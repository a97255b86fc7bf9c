"""Augmentations: vectorised over the batch, on its device, with explicit per-image randomness.

Each draws its random numbers first and applies them after, so that a batch gives the same
images however it is split, and a test can say what was drawn.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.registry import Options, Registry

if TYPE_CHECKING:
    import torch

augmentations: Registry[AugmentationOptions] = Registry("augmentation", __name__)

Stage = Literal["crop", "flip", "erase"]
"""When an augmentation runs. `crop` and `flip` see uint8 pixels; normalisation follows; `erase`
sees normalised images."""
STAGES: tuple[Stage, ...] = ("crop", "flip", "erase")


class AugmentationOptions(Options, abc.ABC):
    """One augmentation of single images."""

    registry: ClassVar[Registry[AugmentationOptions]] = augmentations
    __slots__ = ()
    stage: ClassVar[Stage]

    @abc.abstractmethod
    def draw(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> torch.Tensor:
        """Draw the randomness for a batch of `shape` (N, C, H, W): a tensor with N rows."""

    @abc.abstractmethod
    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Return the batch, (N, C, H, W) of the same dtype, augmented as `draws` says."""
