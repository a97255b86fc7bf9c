"""Augmentations: vectorised over the batch, on its device, with an explicit generator.

None of them waits for the device: random draws stay on it, and shapes never depend on draws. Augmentations
that need the whole image, before it is resized for the network, run where files are decoded.
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.registry import Options, Registry
from trainer.schema import ConfigError, check

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from trainer.datasets import DataSpec
    from trainer.loss import Batch

augmentations: Registry[AugmentationOptions] = Registry("augmentation", __name__)

Stage = Literal["decode", "policy", "crop", "flip", "light", "colour", "erase", "batch"]
"""When an augmentation runs. `decode` gets the image of a file, in the worker that reads it; `policy`, `crop`
and `flip` get uint8 pixels; `light` gets float32 images whose pixels were scaled to 0..1; then images are
normalised; `colour` and `erase` get normalised images, and `batch` the whole batch with its labels. Those of
one stage run in the order of their names."""
STAGES: tuple[Stage, ...] = ("decode", "policy", "crop", "flip", "light", "colour", "erase", "batch")
PIXEL_STAGES: tuple[Stage, ...] = ("policy", "crop", "flip")
ALONE_STAGES: tuple[Stage, ...] = ("decode", "policy", "batch")
"""Stages of which a config has at most one augmentation."""


class AugmentationOptions(Options, abc.ABC):
    """One augmentation: a `FileAugmentation`, an `ImageAugmentation` or a `BatchAugmentation`."""

    registry: ClassVar[Registry[AugmentationOptions]] = augmentations
    __slots__ = ()
    stage: ClassVar[Stage]
    excludes: ClassVar[frozenset[str]] = frozenset()
    """Names of augmentations that cannot be combined with this one."""

    def check(self, data: DataSpec) -> None:
        """Raise ConfigError if this augmentation cannot work on such images."""

    @property
    def footprint(self) -> AugmentationOptions:
        """One value for all options that take the same memory and about the same time."""
        return self

    def of_epoch(self, epoch: int, epochs: int, seed: int) -> AugmentationOptions:
        """Return what counts in an epoch, counted from 0, of a trial of so many `epochs` with this seed."""
        return self


class FileAugmentation(AugmentationOptions):
    """A way to cut an image file to the size of the network's input. A config has at most one."""

    __slots__ = ()
    stage: ClassVar[Stage] = "decode"

    def check(self, data: DataSpec) -> None:
        problem = "is for images that are streamed: imagenet, or image_folder with stream: true"
        check(data.streamed, "", problem)

    @abc.abstractmethod
    def transform(self, image_size: int) -> Callable[[Image.Image], Image.Image]:
        """Return the transform to `image_size` pixels a side. It draws from torch's default generator."""


class ImageAugmentation(AugmentationOptions):
    """An augmentation of single images.

    It first draws random numbers, then applies them, so that a batch gives the same images however it is
    split, and a test can choose the draws.
    """

    __slots__ = ()

    def prepared(
        self, data: DataSpec, device: torch.device, epoch: int, epochs: int, seed: int
    ) -> ImageAugmentation:
        """Return the augmentation of one epoch, which may hold tensors on the device.

        Args:
            data: describes the images.
            device: where they will be.
            epoch: counted from 0.
            epochs: length of the trial.
            seed: the trial's seed.
        """
        return self

    @abc.abstractmethod
    def draw(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> torch.Tensor:
        """Draw the randomness for a batch of `shape` (N, C, H, W): a tensor with N rows."""

    def planned(self, places: torch.Tensor, epoch: int, seed: int) -> torch.Tensor | None:
        """Return the draws that an image's place in the training set decides; None: use `draw`.

        Args:
            places: indices in the training set, (N,) int64.
            epoch: counted from 0.
            seed: the trial's seed.
        """
        return None

    @abc.abstractmethod
    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Return the batch, (N, C, H, W) of the same dtype, augmented with these draws.

        In the stage `policy`, it may have a channel more: 1 where a pixel is the image's, 0 where it is to
        become the mean colour. Crops and flips move that channel, too.
        """


class BatchAugmentation(AugmentationOptions):
    """An augmentation that mixes or repeats the images of a batch. A config has at most one."""

    __slots__ = ()
    stage: ClassVar[Stage] = "batch"

    @abc.abstractmethod
    def batch(self, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return the training batch for normalised `images` (N, C, H, W) and `labels` (N,)."""


def check_all(chosen: Iterable[AugmentationOptions], data: DataSpec) -> None:
    """Check the augmentations of a config, each against the images and with each other.

    Raises:
        ConfigError: one does not fit the images, or two cannot be combined.
    """
    chosen = tuple(chosen)
    for options in chosen:
        try:
            options.check(data)
        except ConfigError as error:
            raise ConfigError(f"{options.name}.{error.key}".rstrip("."), error.problem) from None
    for one, other in itertools.permutations(chosen, 2):
        clash = other.name in one.excludes or one.stage == other.stage in ALONE_STAGES
        check(not clash, one.name, f"cannot be combined with {other.name}; switch one of the two off")
