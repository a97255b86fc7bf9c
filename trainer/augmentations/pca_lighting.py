"""Random light along the principal components of ImageNet's colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.augmentations import ImageAugmentation, Stage, augmentations
from trainer.schema import check

if TYPE_CHECKING:
    import torch

    from trainer.datasets import DataSpec

EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
"""Of the colours of ImageNet's pixels, in 0..1. Rows: red, green, blue; columns: those of `EIGENVALUES`."""


@augmentations.register("pca_lighting")
@dataclass(frozen=True, kw_only=True, slots=True)
class PCALighting(ImageAugmentation):
    """One colour is added to all of an image (Krizhevsky et al., NIPS 2012, section 4.1).

    It is the sum of the principal components, each times its eigenvalue and a number from N(0, std). The
    numbers are those of fb.resnet.torch. This acts before normalisation, after `colour_jitter`.
    """

    stage: ClassVar[Stage] = "light"
    std: float = 0.1
    """Standard deviation of the numbers."""

    def __post_init__(self) -> None:
        check(self.std >= 0, "std", "must be >= 0, got {}", self.std)

    def check(self, data: DataSpec) -> None:
        check(data.channels == 3, "", "takes RGB images, the data set's have {} channels", data.channels)

    def draw(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> torch.Tensor:
        """Draw the (N, 3) numbers, one for each component."""
        import torch

        return self.std * torch.randn((shape[0], 3), generator=generator, device=generator.device)

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        import torch

        weights = [value * number for value, number in zip(EIGENVALUES, draws.unbind(1), strict=True)]
        # Plain numbers: a tensor of them would be copied to the device, which waits for it.
        colour = [sum(e * weight for e, weight in zip(row, weights, strict=True)) for row in EIGENVECTORS]
        return images + torch.stack(colour, dim=1)[:, :, None, None]  # type: ignore[arg-type]
