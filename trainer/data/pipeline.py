"""Batches: from stored pixels to the network's input, all on one device."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable

import torch

from trainer import seeds
from trainer.augmentations import (
    PIXEL_STAGES,
    STAGES,
    AugmentationOptions,
    BatchAugmentation,
    FileAugmentation,
    ImageAugmentation,
)
from trainer.config import TrainConfig
from trainer.data.stream import StreamedSplit, batch_of
from trainer.datasets import DataSpec, ImageFiles, Images
from trainer.loss import Batch, plain


class Split:
    """Images and labels of one split, held on the device as uint8."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.x = x  # (N, C, H, W) uint8
        self.y = y  # (N,) int64

    def __len__(self) -> int:
        return len(self.y)

    def batches(self, size: int) -> Generator[tuple[torch.Tensor, torch.Tensor], None, None]:
        """Yield (images, labels) in stored order, `size` at a time, or fewer if the images are large."""
        size = batch_of(size, self.x.shape[-1])
        yield from zip(self.x.split(size), self.y.split(size), strict=True)

    def taken(
        self, order: torch.Tensor, starts: Iterable[int], size: int, epoch: int
    ) -> Generator[tuple[torch.Tensor, torch.Tensor, torch.Tensor], None, None]:
        """Yield (images, labels, places) for each start; places is `order[start : start + size]`, int64."""
        order = order.to(self.y.device)
        for start in starts:
            places = order[start : start + size]
            yield self.x[places], self.y[places], places

    def close(self) -> None:
        """Do nothing: only a streamed split has worker processes."""


AnySplit = Split | StreamedSplit


def open_splits(
    images: Images | ImageFiles, config: TrainConfig, seed: int, device: torch.device, workers: int
) -> tuple[AnySplit, AnySplit]:
    """Return the training and the test split of `images`, which are already the config's part of a data set.

    If they are streamed, `workers` processes decode each.
    """
    if isinstance(images, Images):
        return to_device(images, device)
    crops = [options for options in config.augmentation if isinstance(options, FileAugmentation)]
    crop = crops[0].transform(images.source.image_size) if crops else None
    source, train_x, train_y, test_x, test_y = images
    return (
        StreamedSplit(source, train_x, train_y, device, crop=crop, seed=seed, workers=workers),
        StreamedSplit(source, test_x, test_y, device, workers=workers),
    )


def to_device(images: Images, device: torch.device) -> tuple[Split, Split]:
    """Return the training and the test split. On CPU they use the cache's memory map."""
    train_x, train_y, test_x, test_y = (torch.from_numpy(array).to(device) for array in images)
    return Split(train_x, train_y), Split(test_x, test_y)


def order_of(config: TrainConfig, seed: int, epoch: int) -> torch.Tensor:
    """Return the order of an epoch's images: indices in the training set, int64. Epochs count from 0."""
    generator = torch.Generator().manual_seed(seeds.stream(seed, "order", epoch))
    number = config.num_train
    if config.sampling == "replacement":
        return torch.randint(number, (number,), generator=generator)
    return torch.randperm(number, generator=generator)


def pixel_statistics(pixels: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the mean image, (C, H, W) float64, and one standard deviation of all values.

    Sums are of whole numbers, so that they are the same on every device.

    Args:
        pixels: images, (N, C, H, W) uint8.
    """
    sums = torch.zeros(pixels.shape[1:], dtype=torch.int64, device=pixels.device)
    squares = torch.zeros((), dtype=torch.int64, device=pixels.device)
    for part in pixels.split(1000):
        whole = part.to(torch.int64)
        sums += whole.sum(0)
        squares += whole.square().sum()
    mean = sums.double() / len(pixels)
    variance = squares.item() / pixels.numel() - mean.mean().item() ** 2
    return mean, math.sqrt(variance)


class Pipeline:
    """Normalisation and augmentation, in a trial of this `seed`.

    Args:
        spec: has the mean and the standard deviation of each channel.
        augmentation: what to do to training images.
        device: where to compute.
        seed: the trial's.
        epochs: length of the trial.
        pixels: training images, (N, C, H, W) uint8, to normalise with their mean image and one standard
            deviation; then images are normalised before they are cropped and mirrored. None: use the `spec`.
    """

    def __init__(
        self,
        spec: DataSpec,
        augmentation: tuple[AugmentationOptions, ...],
        device: torch.device,
        seed: int = 0,
        epochs: int = 1,
        pixels: torch.Tensor | None = None,
    ) -> None:
        self.spec, self.device, self.seed, self.epochs = spec, device, seed, epochs
        self.normalise_first = pixels is not None
        if pixels is None:
            std = torch.tensor(spec.std, device=device).view(1, -1, 1, 1)
            mean = torch.tensor(spec.mean, device=device).view(1, -1, 1, 1)
            self.scale, self.shift = 1 / (255 * std), -mean / std
        else:
            mean_image, deviation = pixel_statistics(pixels)
            self.scale = torch.tensor(1 / deviation, dtype=torch.float32, device=device)
            shift = (-mean_image / deviation)[None].to(device, torch.float32)
            self.shift = shift.contiguous(memory_format=torch.channels_last)
        ordered = sorted(augmentation, key=lambda options: (STAGES.index(options.stage), options.name))
        of_images = [options for options in ordered if isinstance(options, ImageAugmentation)]
        self.of_images = of_images
        self.prepared_for: int | None = None
        """The epoch that the next three lists are for."""
        self.on_pixels: list[ImageAugmentation] = []
        self.on_light: list[ImageAugmentation] = []
        self.on_images: list[ImageAugmentation] = []
        self.on_batch = next((options for options in ordered if isinstance(options, BatchAugmentation)), None)

    def prepare(self, epoch: int) -> None:
        """Bring to the device what augmentations need in an epoch: its steps must not wait for that."""
        if epoch == self.prepared_for:
            return
        ready = [
            (options.stage, options.prepared(self.spec, self.device, epoch, self.epochs, self.seed))
            for options in self.of_images
        ]
        first = PIXEL_STAGES[:1] if self.normalise_first else PIXEL_STAGES
        self.on_pixels = [options for stage, options in ready if stage in first]
        self.on_light = [options for stage, options in ready if stage == "light"]
        self.on_images = [options for stage, options in ready if stage not in (*first, "light")]
        self.prepared_for = epoch

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return uint8 `pixels` (N, C, H, W) as normalised float32 images, in channels-last memory format."""
        images = pixels.to(torch.float32, memory_format=torch.channels_last)
        return images.mul_(self.scale).add_(self.shift)

    def augment(
        self, pixels: torch.Tensor, generator: torch.Generator, places: torch.Tensor, epoch: int
    ) -> torch.Tensor:
        """Augment each of the uint8 `pixels` (N, C, H, W) by itself, and normalise them."""

        def augmented(options: ImageAugmentation, x: torch.Tensor) -> torch.Tensor:
            draws = options.planned(places, epoch, self.seed)
            n, channels, height, width = x.shape
            shape = (n, channels, height, width)
            return options.apply(x, options.draw(shape, generator) if draws is None else draws)

        self.prepare(epoch)
        channels = self.spec.channels
        for options in self.on_pixels:
            pixels = augmented(options, pixels)
        colours = pixels[:, :channels]
        if self.on_light:
            colours = colours.to(torch.float32, memory_format=torch.channels_last).div_(255)
            for options in self.on_light:
                colours = augmented(options, colours)
            colours = colours.mul_(255)
        images = self.normalise(colours)
        if pixels.shape[1] > channels:  # the mask of a policy: filled pixels become 0, the mean colour
            images.mul_(pixels[:, channels:])
        for options in self.on_images:
            images = augmented(options, images)
        return images.contiguous(memory_format=torch.channels_last) if self.normalise_first else images

    def batch(
        self,
        pixels: torch.Tensor,
        labels: torch.Tensor,
        generator: torch.Generator,
        places: torch.Tensor,
        epoch: int,
    ) -> Batch:
        """Return a training batch from uint8 `pixels` (N, C, H, W) and `labels` (N,).

        `places` (N,) int64 are the images' indices in the training set; `epoch` is counted from 0.
        """
        images = self.augment(pixels, generator, places, epoch)
        return self.on_batch.batch(images, labels, generator) if self.on_batch else plain(images, labels)
