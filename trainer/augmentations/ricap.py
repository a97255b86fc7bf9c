"""RICAP: random image cropping and patching (Takahashi et al., arXiv:1811.09030)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.augmentations import BatchAugmentation, augmentations
from trainer.schema import check

if TYPE_CHECKING:
    import torch

    from trainer.loss import Batch


@augmentations.register("ricap")
@dataclass(frozen=True, kw_only=True, slots=True)
class RICAP(BatchAugmentation):
    """Each image is put together from crops of four images; the labels mix by area.

    The point where the four crops meet is drawn from Beta(beta, beta), times the width and the height. As
    in the authors' code, this point and the positions of the crops are the same for the whole batch; only
    the four images differ.
    """

    beta: float = 0.3
    """Where the crops meet is drawn from Beta(beta, beta)."""

    def __post_init__(self) -> None:
        check(self.beta > 0, "beta", f"must be > 0, got {self.beta}")

    def batch(self, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> Batch:
        import torch

        from trainer.augmentations._draws import integers_below, symmetric_beta

        n, _, height, width = images.shape
        beta = symmetric_beta(self.beta, (2,), generator)
        meet = torch.stack([beta[0] * height, beta[1] * width]).round().long()
        heights, widths = part_sizes(meet, height, width)
        tops = integers_below(height - heights + 1, generator)
        lefts = integers_below(width - widths + 1, generator)
        partners = [torch.randperm(n, generator=generator, device=generator.device) for _ in range(4)]
        return ricap(images, labels, torch.stack(partners), meet, tops, lefts)


def part_sizes(meet: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return heights and widths, (4,) each, of the parts upper left, upper right, lower left, lower right."""
    import torch

    h, w = meet.unbind()
    return torch.stack([h, h, height - h, height - h]), torch.stack([w, width - w, w, width - w])


def ricap(
    images: torch.Tensor,
    labels: torch.Tensor,
    partners: torch.Tensor,
    meet: torch.Tensor,
    tops: torch.Tensor,
    lefts: torch.Tensor,
) -> Batch:
    """Patch crops of four images together; parts are numbered as in `part_sizes`.

    Args:
        images: (N, C, H, W).
        labels: (N,).
        partners: (4, N) indices in the batch: the image that each part comes from.
        meet: (2,) row and column where the lower right part begins, 0..H and 0..W.
        tops: (4,) first row of each part in the image that it comes from.
        lefts: (4,) first column.
    """
    import torch

    from trainer.loss import mixed

    n, channels, height, width = images.shape
    row = torch.arange(height, device=images.device)[:, None]
    column = torch.arange(width, device=images.device)
    lower, right = row >= meet[0], column >= meet[1]  # (H, 1), (W,)
    part = 2 * lower + right  # (H, W), 0..3
    row = row - lower * meet[0] + tops[part]
    column = column - right * meet[1] + lefts[part]

    # Gather whole pixels at once, by their index among all pixels of the batch.
    image = partners.T.index_select(1, part.flatten())  # (N, H W)
    source = image * (height * width) + (row * width + column).flatten()
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)  # (N H W, C), no copy if channels last
    patched = pixels.index_select(0, source.flatten()).view(n, height, width, channels)

    heights, widths = part_sizes(meet, height, width)
    return mixed(patched.permute(0, 3, 1, 2), labels[partners], heights * widths / (height * width))
