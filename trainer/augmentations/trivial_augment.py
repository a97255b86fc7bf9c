"""TrivialAugment (Mueller & Hutter, arXiv:2103.10158)."""

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


@augmentations.register("trivial_augment")
@dataclass(frozen=True, kw_only=True, slots=True)
class TrivialAugment(ActionAugmentation):
    """Each image gets one random operation of a random magnitude; the wide ranges, as in torchvision."""

    num_magnitude_bins: int = 31
    """Number of magnitudes."""

    def __post_init__(self) -> None:
        bins = self.num_magnitude_bins
        check(2 <= bins <= 1000, "num_magnitude_bins", "must be in 2..1000, got {}", bins)

    def actions(self, height: int, width: int) -> tuple[Action, ...]:
        return _actions(self.num_magnitude_bins, height, width)

    def choose(self, shape: Shape, generator: torch.Generator, *choices: torch.Tensor) -> torch.Tensor:
        import torch

        def below(limit: int) -> torch.Tensor:
            return torch.randint(limit, (shape[0], 1), generator=generator, device=generator.device)

        bins = self.num_magnitude_bins
        action = 1 + 2 * (below(len(OPERATIONS)) * bins + below(bins)) + below(2)
        return torch.nn.functional.pad(action[..., None], (0, 2))


@functools.lru_cache(maxsize=16)
def _actions(bins: int, height: int, width: int) -> tuple[Action, ...]:
    chosen = [(name, magnitude) for name in OPERATIONS for magnitude in range(bins)]
    return pairs(chosen, bins, height, width, wide=True)
