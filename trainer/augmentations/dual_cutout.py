"""Dual-Cutout (Kawaguchi et al., arXiv:1802.07426)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.augmentations import BatchAugmentation, augmentations
from trainer.augmentations.cutout import Cutout
from trainer.schema import check

if TYPE_CHECKING:
    import torch

    from trainer.loss import Batch


@augmentations.register("dual_cutout")
@dataclass(frozen=True, kw_only=True, slots=True)
class DualCutout(BatchAugmentation):
    """Two copies of each image, each with its own Cutout, whose logits are pulled together.

    The loss is the mean of the two cross-entropies + alpha x the mean squared difference of the logits. Both
    copies go through the network in one batch, so batch norm sees them together.
    """

    excludes: ClassVar[frozenset[str]] = frozenset({"cutout"})
    size: int = 16
    """Side of the squares, pixels."""
    alpha: float = 0.1
    """Weight of the squared difference of the logits in the loss."""

    def __post_init__(self) -> None:
        check(self.size >= 0, "size", f"must be >= 0, got {self.size}")
        check(self.alpha >= 0, "alpha", f"must be >= 0, got {self.alpha}")

    def batch(self, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return 2 N images, the two copies of each side by side."""
        import torch

        from trainer.loss import plain

        n, channels, height, width = images.shape
        twice = torch.arange(2 * n, device=images.device) // 2
        cutout = Cutout(size=self.size)
        draws = cutout.draw((2 * n, channels, height, width), generator)
        return plain(cutout.apply(images[twice], draws), labels[twice])._replace(agreement=self.alpha)
