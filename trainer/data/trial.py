"""The images of one trial, and the batches that it takes of them."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable

import torch

from trainer import data
from trainer.config import TrainConfig
from trainer.data import splits
from trainer.data.pipeline import Pipeline, Split, open_splits, order_of
from trainer.data.statistics import normalised_spec
from trainer.datasets import ImageFiles, Images
from trainer.runtime import Runtime


def own_images(config: TrainConfig, runtime: Runtime) -> Images | ImageFiles:
    """Return the part of its data set that a trial uses.

    Raises:
        DataError: the data set is not available.
    """
    images = data.load(config.dataset, runtime.data_dir, runtime.cache_dir)
    return splits.split(images, config.train_size, config.num_held_out, config.split_seed)


class TrialData:
    """The images that a trial trains on and is tested on, on its device.

    Args:
        config: of the trial.
        seed: the trial's.
        runtime: where data sets are, and how many processes decode streamed ones.
        device: where to hold the images.

    Raises:
        DataError: the data set is not available.
    """

    def __init__(self, config: TrainConfig, seed: int, runtime: Runtime, device: torch.device) -> None:
        self.config, self.seed = config, seed
        images = own_images(config, runtime)
        self.train, self.test = open_splits(images, config, seed, device, runtime.num_workers)
        pixels = None
        if config.normalisation == "per_pixel":
            assert isinstance(self.train, Split)
            pixels = self.train.x
        spec = normalised_spec(config, images)
        self.pipeline = Pipeline(spec, config.augmentation, device, seed, config.num_epochs, pixels)

    def order(self, epoch: int) -> torch.Tensor:
        """Return the order of an epoch's images. It depends on the seed and the epoch only."""
        return order_of(self.config, self.seed, epoch)

    def batches(
        self, epoch: int, starts: Iterable[int]
    ) -> Generator[tuple[torch.Tensor, torch.Tensor, torch.Tensor], None, None]:
        """Yield a batch of an epoch for each of its places in the order: pixels, labels, indices.

        The pixels are uint8 (N, C, H, W), the indices those of the images in the training set. Epochs count
        from 0. Close it if you do not take all.
        """
        return self.train.taken(self.order(epoch), starts, self.config.batch_size, epoch)

    def first_images(self, number: int) -> torch.Tensor:
        """Return the first training images, normalised, without augmentation, (N, C, H, W)."""
        found: list[torch.Tensor] = []
        with contextlib.closing(self.train.batches(number)) as batches:
            for pixels, _ in batches:  # of large streamed images, a batch has fewer
                found.append(self.pipeline.normalise(pixels))
                if sum(map(len, found)) >= number:
                    break
        return torch.cat(found)[:number]

    def close(self) -> None:
        """End the worker processes."""
        self.train.close()
        self.test.close()
