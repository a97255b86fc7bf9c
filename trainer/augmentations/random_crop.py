"""Pad and crop at a random offset (He et al., arXiv:1512.03385)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.augmentations import ImageAugmentation, Stage, augmentations
from trainer.schema import check

if TYPE_CHECKING:
    import torch

    from trainer.datasets import DataSpec


@augmentations.register("random_crop")
@dataclass(frozen=True, kw_only=True, slots=True)
class RandomCrop(ImageAugmentation):
    """Pad the image, then take one of its (2 padding + 1)^2 windows of the old size."""

    stage: ClassVar[Stage] = "crop"
    padding: int = 4
    """Width of the added border on each side, pixels."""
    padding_mode: Literal["zero", "reflect"] = "zero"
    """What is beyond the border. reflect: the image's mirror image, without repeating the edge."""

    def __post_init__(self) -> None:
        check(self.padding >= 0, "padding", f"must be >= 0, got {self.padding}")

    def check(self, data: DataSpec) -> None:
        problem = f"must be < {data.image_size} with padding_mode: reflect, got {self.padding}"
        check(self.padding_mode == "zero" or self.padding < data.image_size, "padding", problem)

    def draw(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> torch.Tensor:
        """Draw (N, 2) window offsets, rows then columns, each 0..2 padding."""
        import torch

        windows = 2 * self.padding + 1
        return torch.randint(windows, (shape[0], 2), generator=generator, device=generator.device)

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        import torch
        import torch.nn.functional as F

        n, _, height, width = images.shape
        if self.padding_mode == "zero":
            padded = F.pad(images, (self.padding,) * 4)
        else:  # F.pad does not reflect uint8
            rows, columns = (self._reflected(length, images.device) for length in (height, width))
            padded = images.index_select(2, rows).index_select(3, columns)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        # windows: a view, (N, C, offsets, offsets, H, W)
        return windows[torch.arange(n, device=images.device), :, draws[:, 0], draws[:, 1]]

    def _reflected(self, length: int, device: torch.device) -> torch.Tensor:
        """Return which of `length` pixels lies at each place of the padded line, (length + 2 padding,)."""
        import torch

        places = torch.arange(-self.padding, length + self.padding, device=device).abs()
        return length - 1 - (length - 1 - places).abs()
