"""AutoAugment (Cubuk et al., arXiv:1805.09501)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trainer.augmentations import augmentations
from trainer.augmentations.policy.actions import ActionAugmentation, Shape
from trainer.augmentations.policy.magnitudes import pairs

if TYPE_CHECKING:
    import torch

    from trainer.augmentations.policy.operations import Action

SLOTS, BINS = 2, 10
Searched = Literal["cifar10", "svhn", "imagenet"]


@augmentations.register("auto_augment")
@dataclass(frozen=True, kw_only=True, slots=True)
class AutoAugment(ActionAugmentation):
    """Each image gets one of 25 pairs of operations, each with a probability, as in torchvision."""

    policy: Searched = "cifar10"
    """The data set on which the pairs were searched."""

    def actions(self, height: int, width: int) -> tuple[Action, ...]:
        return _actions(self.policy, height, width)

    def choices(self) -> tuple[torch.Tensor, ...]:
        import torch

        return (torch.tensor([p for _, p, _ in _entries(self.policy)]).view(-1, SLOTS),)

    def choose(self, shape: Shape, generator: torch.Generator, *choices: torch.Tensor) -> torch.Tensor:
        import torch

        n, device = shape[0], generator.device
        (probabilities,) = choices
        pair = torch.randint(len(probabilities), (n,), generator=generator, device=device)
        fires = torch.rand((n, SLOTS), generator=generator, device=device) < probabilities[pair]
        sign = torch.randint(2, (n, SLOTS), generator=generator, device=device)
        entry = pair[:, None] * SLOTS + torch.arange(SLOTS, device=device)
        return torch.nn.functional.pad(((1 + 2 * entry + sign) * fires)[..., None], (0, 2))


@functools.cache
def _entries(policy: Searched) -> list[tuple[str, float, int | None]]:
    """Return the operations of all pairs, with probability and magnitude."""
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    return [entry for pair in AutoAugment(AutoAugmentPolicy(policy)).policies for entry in pair]


@functools.lru_cache(maxsize=16)
def _actions(policy: Searched, height: int, width: int) -> tuple[Action, ...]:
    chosen = [(name, magnitude or 0) for name, _, magnitude in _entries(policy)]
    return pairs(chosen, BINS, height, width)
