"""CutMix (Yun et al., arXiv:1905.04899)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.augmentations import BatchAugmentation, augmentations
from trainer.schema import check

if TYPE_CHECKING:
    import torch

    from trainer.loss import Batch


@augmentations.register("cutmix")
@dataclass(frozen=True, kw_only=True, slots=True)
class CutMix(BatchAugmentation):
    """A box of each image is replaced by that of another image; the labels mix by area.

    As in the authors' code, lambda ~ Beta(alpha, alpha) and the box are the same for the whole batch, and
    the box is rounded in the same way. Its sides are sqrt(1 - lambda) of the image's, its centre is any
    pixel.
    """

    alpha: float = 1.0
    """The share of each image that stays is drawn from Beta(alpha, alpha)."""
    correct_lambda: bool = True
    """True: labels mix by the box's area inside the image, as in the paper. False: by lambda as drawn, as
    in the repository behind the published tables."""

    def __post_init__(self) -> None:
        check(self.alpha > 0, "alpha", f"must be > 0, got {self.alpha}")

    def batch(self, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> Batch:
        import torch

        from trainer.augmentations._draws import symmetric_beta

        share = symmetric_beta(self.alpha, (), generator)
        partners = torch.randperm(len(labels), generator=generator, device=generator.device)
        height, width = images.shape[2:]
        box = draw_box(share, height, width, generator)
        return cutmix(images, labels, partners, box, None if self.correct_lambda else share.float())


def draw_box(share: torch.Tensor, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Draw a box, (4,) int64, that leaves the fraction `share` (a scalar) of the image, and clip it."""
    import torch

    half = 0.5 * (1 - share).sqrt()

    def extent(length: int) -> tuple[torch.Tensor, torch.Tensor]:
        centre = torch.randint(0, length, (), generator=generator, device=generator.device)
        reach = (half * length).long()
        return (centre - reach).clamp(min=0), (centre + reach).clamp(max=length)

    (top, bottom), (left, right) = extent(height), extent(width)
    return torch.stack([top, left, bottom, right])


def cutmix(
    images: torch.Tensor,
    labels: torch.Tensor,
    partners: torch.Tensor,
    box: torch.Tensor,
    share: torch.Tensor | None = None,
) -> Batch:
    """Replace a box (4,) of each image, (N, C, H, W), by that of the image of its index in `partners`, (N,).

    The scalar `share` is the weight of the image's own label; None: the area outside the box.
    """
    import torch

    from trainer.augmentations import _boxes
    from trainer.loss import mixed

    height, width = images.shape[2:]
    if share is None:
        top, left, bottom, right = box.unbind()
        share = 1 - (bottom - top) * (right - left) / (height * width)
    patched = torch.where(_boxes.mask(box, height, width), images[partners], images)
    return mixed(patched, torch.stack([labels, labels[partners]]), torch.stack([share, 1 - share]))
