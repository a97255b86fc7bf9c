"""Policies and their schedules (Ho et al., Population Based Augmentation, arXiv:1905.05393)."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from trainer import seeds
from trainer.augmentations import augmentations
from trainer.augmentations.policy.actions import ActionAugmentation, Shape
from trainer.augmentations.policy.schedules import (
    COPIES,
    LEVELS,
    MAX_EPOCHS,
    OPERATIONS,
    RANDOM,
    TENTHS,
    Entry,
    Schedule,
    length,
    piece_at,
    policy_text,
    read_policy,
)
from trainer.schema import ConfigError, check

if TYPE_CHECKING:
    import torch

    from trainer.augmentations.policy.operations import Action

SIGNED = frozenset({"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"})
BUDGETS = (0.2, 0.3, 0.5)
"""Probabilities that an image gets at most 0, 1 or 2 operations."""


@augmentations.register("policy")
@dataclass(frozen=True, kw_only=True, slots=True)
class Policy(ActionAugmentation):
    """Random operations, chosen by a policy that changes over the epochs.

    Each image may get up to 0, 1 or 2 operations (with probability 0.2, 0.3 and 0.5): those of its policy, in
    a random order of its own, each with its own probability, until there are as many. Those without effect
    count too. Pixels from beyond the border, and the square of a Cutout, become the mean colour; but after
    AutoContrast, Equalize, Invert, Posterize or Solarize they are pixels as any other, as in the authors'
    code. All that is exact in uint8: PIL gives the same images.
    """

    masked: ClassVar[bool] = True
    schedule: tuple[tuple[int, str], ...]
    """Pairs of epochs and policy, stretched to the length of the run. A policy is a text of operations with
    probability and level, `Rotate 0.3 6, ShearX 1 9`; empty: none; `random`: drawn with the trial's seed. A
    grid may name a YAML file instead."""
    compat: bool = False
    """Stretch as the authors' code does, which rounds the length of each policy down."""
    flattened: bool = False
    """Each image has the policy of a random epoch of the schedule, so that their order is lost."""

    def __post_init__(self) -> None:
        check(len(self.schedule) > 0, "schedule", "must have a policy")
        check(length(self.schedule) <= MAX_EPOCHS, "schedule", "is longer than {} epochs", MAX_EPOCHS)
        pieces = []
        for number, (epochs, text) in enumerate(self.schedule, 1):
            check(epochs >= 1, "schedule", "policy {} must last >= 1 epochs, got {}", number, epochs)
            try:
                pieces.append((epochs, text if text == RANDOM else policy_text(read_policy(text))))
            except ValueError as error:
                raise ConfigError("schedule", f"policy {number}: {error}") from None
        object.__setattr__(self, "schedule", tuple(pieces))

    @property
    def footprint(self) -> Policy:
        return replace(self, schedule=((1, ""),))

    def of_epoch(self, epoch: int, epochs: int, seed: int) -> Policy:
        """Return the policy with the one piece of its schedule that counts in an epoch."""
        schedule = self.schedule
        if not self.flattened:
            piece = piece_at(schedule, epoch, epochs, compat=self.compat)
            schedule = ((1, schedule[piece][1]),)
        drawn = ((n, random_policy(seed) if text == RANDOM else text) for n, text in schedule)
        return replace(self, schedule=tuple(drawn))

    def actions(self, height: int, width: int) -> tuple[Action, ...]:
        return _actions()

    def choices(self) -> tuple[torch.Tensor, ...]:
        return _choices(self.schedule)

    def choose(self, shape: Shape, generator: torch.Generator, *choices: torch.Tensor) -> torch.Tensor:
        """Draw actions and centres. If the schedule has several policies, each image has a random epoch's."""
        import torch

        n, device, slots = shape[0], generator.device, len(BUDGETS) - 1
        inverse, first, ends = choices
        if len(self.schedule) > 1:
            epochs = torch.randint(length(self.schedule), (n,), generator=generator, device=device)
            piece = torch.searchsorted(ends, epochs, right=True)
            inverse, first = inverse[piece], first[piece]
        # An operation fires if a number u in 0..1 is at most its probability p. Then u / p is a random number
        # in 0..1, too; it decides the order of those that fire.
        keys = (1 - torch.rand((n, inverse.shape[1]), generator=generator, device=device)) * inverse
        keys, chosen = keys.topk(slots, largest=False)  # (n, 2)
        budget = torch.rand(n, generator=generator, device=device)
        in_budget = torch.stack([budget >= sum(BUDGETS[: slot + 1]) for slot in range(slots)], 1)
        below = (2, shape[2], shape[3])
        sign, row, column = (
            torch.randint(limit, (n, slots), generator=generator, device=device) for limit in below
        )
        actions = (first.expand(n, -1).gather(1, chosen) + sign) * ((keys <= 1) & in_budget)
        return torch.stack([actions, row, column], 2)


def random_policy(seed: int) -> str:
    """Return the random policy of a trial: each operation twice, all values uniform."""
    draw = random.Random(seeds.stream(seed, "policy")).randrange
    return policy_text(
        [Entry(name, draw(TENTHS + 1), draw(LEVELS)) for name in OPERATIONS for _ in range(COPIES)]
    )


def level_value(operation: str, level: int) -> float:
    """Return the value of a level 0..9, for `policy.operations`; signs are extra."""
    if operation == "Rotate":
        return 30 * level // 10
    if operation in ("ShearX", "ShearY"):
        return 0.3 * level / 10
    if operation in ("TranslateX", "TranslateY"):
        return level
    if operation in ("Brightness", "Color", "Contrast", "Sharpness"):
        return 1.8 * level / 10 + 0.1
    if operation == "Posterize":
        return 4 - 4 * level // 10
    if operation == "Solarize":
        return 256 - 256 * level // 10
    return 2 * level if operation == "Cutout" else 0


@functools.cache
def _actions() -> tuple[Action, ...]:
    """Return the identity, then for each operation and level the action with one sign and the other."""
    pairs = [
        (name, sign * level_value(name, level))
        for name in OPERATIONS
        for level in range(LEVELS)
        for sign in ((1, -1) if name in SIGNED else (1, 1))
    ]
    return ("Identity", 0), *pairs


@functools.lru_cache(maxsize=16)
def _choices(schedule: Schedule) -> tuple[torch.Tensor, ...]:
    """Return for P policies of T entries: 1 / probability (P, T), the first action (P, T), the last epoch + 1
    (P,)."""
    import torch

    policies = [read_policy(text) for _, text in schedule]
    width = max(len(BUDGETS) - 1, *(len(policy) for policy in policies))
    inverse, first = torch.full((len(policies), width), torch.inf), torch.zeros(len(policies), width).long()
    for row, policy in enumerate(policies):
        for column, (name, tenths, level) in enumerate(policy):
            inverse[row, column] = TENTHS / tenths if tenths else torch.inf
            first[row, column] = 1 + 2 * (OPERATIONS.index(name) * LEVELS + level)
    return inverse, first, torch.tensor([epochs for epochs, _ in schedule]).cumsum(0)
