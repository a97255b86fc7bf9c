"""mixup (Zhang et al., arXiv:1710.09412)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.augmentations import BatchAugmentation, augmentations
from trainer.schema import check

if TYPE_CHECKING:
    import torch

    from trainer.loss import Batch


@augmentations.register("mixup")
@dataclass(frozen=True, kw_only=True, slots=True)
class Mixup(BatchAugmentation):
    """Each image becomes lambda x itself + (1 - lambda) x another, and so do the labels.

    As in the authors' code, lambda ~ Beta(alpha, alpha) is the same for the whole batch, and the other images
    are a permutation of the batch.
    """

    alpha: float = 1.0
    """lambda is drawn from Beta(alpha, alpha)."""

    def __post_init__(self) -> None:
        check(self.alpha > 0, "alpha", f"must be > 0, got {self.alpha}")

    def batch(self, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> Batch:
        import torch

        from trainer.augmentations._draws import symmetric_beta

        share = symmetric_beta(self.alpha, (), generator).float()
        partners = torch.randperm(len(labels), generator=generator, device=generator.device)
        return mixup(images, labels, partners, share)


def mixup(images: torch.Tensor, labels: torch.Tensor, partners: torch.Tensor, share: torch.Tensor) -> Batch:
    """Mix each image, (N, C, H, W), with that of its index in `partners`, (N,).

    The scalar `share` is lambda, the weight of the image itself.
    """
    import torch

    from trainer.loss import mixed

    blend = torch.lerp(images[partners], images, share)
    return mixed(blend, torch.stack([labels, labels[partners]]), torch.stack([share, 1 - share]))
