"""Augmentations that give each image its own operations. Torch-free."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar

from trainer.augmentations import ImageAugmentation, Stage
from trainer.schema import check

if TYPE_CHECKING:
    import torch

    from trainer.augmentations.policy.operations import Action
    from trainer.datasets import DataSpec

LEAST_SIZE = 3
"""Sharpness looks at 3 x 3 pixels."""


class ActionAugmentation(ImageAugmentation):
    """A choice of operations for each image, from a list of actions (`policy.operations`).

    The draws are (N, slots, 3) int64: which action an image gets, and row and column of a Cutout's centre.
    """

    __slots__ = ()
    stage: ClassVar[Stage] = "policy"
    masked: ClassVar[bool] = False
    """Whether pixels from beyond the border become the mean colour; otherwise they are black."""

    def check(self, data: DataSpec) -> None:
        problem = f"is for images of 1 or 3 channels, got {data.channels}"
        check(data.channels in (1, 3), "", problem)
        problem = f"is for images of {LEAST_SIZE} pixels a side or more, got {data.image_size}"
        check(data.image_size >= LEAST_SIZE, "", problem)

    @abc.abstractmethod
    def actions(self, height: int, width: int) -> tuple[Action, ...]:
        """Return every action that an image of this size may get. The first one is the identity."""

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        from trainer.augmentations.policy import operations

        channels, height, width = images.shape[1:]
        known = operations.tables(self.actions(height, width), channels, height, width, images.device)
        return operations.apply(images, draws[..., 0], draws[..., 1:], known, masked=self.masked)
