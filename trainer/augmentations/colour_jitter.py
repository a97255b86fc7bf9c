"""Random brightness, contrast and saturation of ImageNet's recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.augmentations import ImageAugmentation, Stage, augmentations
from trainer.schema import check

if TYPE_CHECKING:
    import torch

    from trainer.datasets import DataSpec


@augmentations.register("colour_jitter")
@dataclass(frozen=True, kw_only=True, slots=True)
class ColourJitter(ImageAugmentation):
    """Brightness, contrast and saturation are changed, in random order for each image (fb.resnet.torch).

    Each is the blend `a * image + (1 - a) * other` with a number `a` from 1 - amount..1 + amount. The other
    image is black, the mean grey of the image, or the image in grey. As in the source, values may leave
    0..1; torchvision's functions would cut them off. This acts before normalisation; `brightness` and
    `contrast`, of the speed runs, are something else: they act on normalised images.
    """

    stage: ClassVar[Stage] = "light"
    brightness: float = 0.4
    """Largest difference of `a` from 1."""
    contrast: float = 0.4
    """As `brightness`."""
    saturation: float = 0.4
    """As `brightness`."""

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            amount = getattr(self, name)
            check(0 <= amount <= 1, name, "must be in 0..1, got {}", amount)

    def check(self, data: DataSpec) -> None:
        check(data.channels == 3, "", "takes RGB images, the data set's have {} channels", data.channels)

    def draw(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> torch.Tensor:
        """Draw (N, 6): the three numbers `a`, and three numbers whose order is that of the changes."""
        import torch

        from trainer.augmentations._draws import uniform

        n, *_ = shape
        numbers = [1 + uniform(a, n, generator) for a in (self.brightness, self.contrast, self.saturation)]
        keys = torch.rand((3, n), generator=generator, device=generator.device)
        return torch.stack([*numbers, *keys], dim=1)

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        numbers, order = draws[:, :3], draws[:, 3:].argsort(dim=1, stable=True)
        for place in range(3):
            change = order[:, place : place + 1]  # (N, 1)
            a = numbers.gather(1, change).view(-1, 1, 1, 1)
            change = change.view(-1, 1, 1, 1)
            red, green, blue = images.split(1, dim=1)
            grey = 0.299 * red + 0.587 * green + 0.114 * blue  # (N, 1, H, W)
            other = grey.mean((2, 3), keepdim=True) * (change == 1) + grey * (change == 2)
            images = a * images + (1 - a) * other
        return images
