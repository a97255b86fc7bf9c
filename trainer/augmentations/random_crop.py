"""Pad and crop at a random offset (He et al., arXiv:1512.03385)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.augmentations import ImageAugmentation, Stage, augmentations
from trainer.schema import check

if TYPE_CHECKING:
    import torch


@augmentations.register("random_crop")
@dataclass(frozen=True, kw_only=True, slots=True)
class RandomCrop(ImageAugmentation):
    """Pad the image with zeros, then take one of its (2 padding + 1)^2 windows of the old size."""

    stage: ClassVar[Stage] = "crop"
    padding: int = 4

    def __post_init__(self) -> None:
        check(self.padding >= 0, "padding", f"must be >= 0, got {self.padding}")

    def draw(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> torch.Tensor:
        """Draw (N, 2) window offsets, rows then columns, each 0..2 padding."""
        import torch

        windows = 2 * self.padding + 1
        return torch.randint(windows, (shape[0], 2), generator=generator, device=generator.device)

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        import torch
        import torch.nn.functional as F

        n, _, height, width = images.shape
        windows = F.pad(images, (self.padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
        # windows: a view, (N, C, offsets, offsets, H, W)
        return windows[torch.arange(n, device=images.device), :, draws[:, 0], draws[:, 1]]
