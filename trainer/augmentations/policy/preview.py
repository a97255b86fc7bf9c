"""What a policy makes of one image. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from trainer import seeds
from trainer.augmentations.policy import Policy
from trainer.augmentations.policy.schedules import length


class Preview(NamedTuple):
    """An image under a policy, and what was done to it."""

    operations: tuple[tuple[str, float], ...]
    """Name and value of each operation, in order; those of Cutout in pixels, of Rotate in degrees."""
    image: np.ndarray
    """(H, W, C) uint8."""


def previews(
    policy: Policy, image: np.ndarray, fill: Sequence[float], epoch: int, count: int, seed: int = 0
) -> list[Preview]:
    """Return an image as `count` draws of an epoch's policy leave it.

    Args:
        policy: a schedule, taken at its own length.
        image: (C, H, W) uint8, of one channel or three.
        fill: the mean colour, C numbers in 0..1: what pixels from beyond the border become.
        epoch: counted from 0, below the length of the schedule.
        count: how many draws.
        seed: decides the draws, and a policy that is `random`.
    """
    now = policy.of_epoch(epoch, length(policy.schedule), seed)
    images = torch.from_numpy(image).expand(count, *image.shape).contiguous()
    generator = torch.Generator().manual_seed(seeds.stream(seed, "preview", epoch))
    n, channels, height, width = images.shape
    draws = now.draw((n, channels, height, width), generator)
    made = now.apply(images, draws)
    colour = torch.tensor(fill).mul(255).round().to(torch.uint8).view(1, -1, 1, 1)
    shown = torch.where(made[:, channels:] == 1, made[:, :channels], colour).permute(0, 2, 3, 1).numpy()
    actions = now.actions(height, width)
    return [
        Preview(tuple(actions[action] for action in drawn if action), one)
        for drawn, one in zip(draws[..., 0].tolist(), shown, strict=True)
    ]
