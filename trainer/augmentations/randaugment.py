"""RandAugment (Cubuk et al., arXiv:1909.13719)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.augmentations import augmentations
from trainer.augmentations.policy.actions import ActionAugmentation, Shape
from trainer.augmentations.policy.magnitudes import OPERATIONS, pairs
from trainer.schema import check

if TYPE_CHECKING:
    import torch

    from trainer.augmentations.policy.operations import Action


@augmentations.register("randaugment")
@dataclass(frozen=True, kw_only=True, slots=True)
class RandAugment(ActionAugmentation):
    """Each image gets `num_ops` random operations of the same magnitude; ranges as in torchvision."""

    num_ops: int = 2
    """Operations for each image, one after the other."""
    magnitude: int = 9
    """Strength of the operations, from 0 up to num_magnitude_bins - 1."""
    num_magnitude_bins: int = 31
    """Number of magnitudes; the largest is this - 1."""

    def __post_init__(self) -> None:
        check(1 <= self.num_ops <= 16, "num_ops", "must be in 1..16, got {}", self.num_ops)
        bins = self.num_magnitude_bins
        check(2 <= bins <= 1000, "num_magnitude_bins", "must be in 2..1000, got {}", bins)
        check(0 <= self.magnitude < bins, "magnitude", "must be in 0..{}, got {}", bins - 1, self.magnitude)

    def actions(self, height: int, width: int) -> tuple[Action, ...]:
        return _actions(self.magnitude, self.num_magnitude_bins, height, width)

    def choose(self, shape: Shape, generator: torch.Generator, *choices: torch.Tensor) -> torch.Tensor:
        import torch

        slots, device = (shape[0], self.num_ops), generator.device
        operation = torch.randint(len(OPERATIONS), slots, generator=generator, device=device)
        sign = torch.randint(2, slots, generator=generator, device=device)
        return torch.nn.functional.pad((1 + 2 * operation + sign)[..., None], (0, 2))


@functools.lru_cache(maxsize=16)
def _actions(magnitude: int, bins: int, height: int, width: int) -> tuple[Action, ...]:
    return pairs([(name, magnitude) for name in OPERATIONS], bins, height, width)
