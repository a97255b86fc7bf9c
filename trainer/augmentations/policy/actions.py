"""Augmentations that give each image its own operations. Torch-free."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar

from trainer.augmentations import ImageAugmentation, Stage
from trainer.schema import check

if TYPE_CHECKING:
    import torch

    from trainer.augmentations.policy.operations import Action, Tables
    from trainer.datasets import DataSpec

LEAST_SIZE = 3
"""Sharpness looks at 3 x 3 pixels."""


Shape = tuple[int, int, int, int]


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

    def of_epoch(self, epoch: int, epochs: int, seed: int) -> ActionAugmentation:
        """Return the augmentation of one epoch."""
        return self

    def choices(self) -> tuple[torch.Tensor, ...]:
        """Return the tensors that `choose` needs, on the CPU."""
        return ()

    @abc.abstractmethod
    def choose(self, shape: Shape, generator: torch.Generator, *choices: torch.Tensor) -> torch.Tensor:
        """Return the draws for a batch of `shape`; `choices` are on the generator's device."""

    def draw(self, shape: Shape, generator: torch.Generator) -> torch.Tensor:
        return self.choose(shape, generator, *(each.to(generator.device) for each in self.choices()))

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        from trainer.augmentations.policy import operations

        channels, height, width = images.shape[1:]
        tables = operations.tables(self.actions(height, width), channels, height, width).to(images.device)
        return operations.apply(images, draws[..., 0], draws[..., 1:], tables, masked=self.masked)

    def prepared(
        self, data: DataSpec, device: torch.device, epoch: int, epochs: int, seed: int
    ) -> ImageAugmentation:
        from trainer.augmentations.policy import operations

        now, size = self.of_epoch(epoch, epochs, seed), data.image_size
        tables = operations.tables(now.actions(size, size), data.channels, size, size)
        return Prepared(now, tuple(each.to(device) for each in now.choices()), tables.to(device))


class Prepared(ImageAugmentation):
    """An augmentation of one epoch, with all that it needs on the device. Not registered."""

    def __init__(
        self, options: ActionAugmentation, choices: tuple[torch.Tensor, ...], tables: Tables
    ) -> None:
        self.options, self.choices, self.tables = options, choices, tables

    def draw(self, shape: Shape, generator: torch.Generator) -> torch.Tensor:
        return self.options.choose(shape, generator, *self.choices)

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        from trainer.augmentations.policy import operations

        masked = self.options.masked
        return operations.apply(images, draws[..., 0], draws[..., 1:], self.tables, masked=masked)
