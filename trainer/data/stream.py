"""Streamed images: worker processes decode them a little ahead of the training step.

The result depends only on the file, the trial's seed, the epoch and the image's index. The number of workers
and interruptions of the trial make no difference.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing import forkserver, resource_tracker
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainer import seeds
from trainer.datasets import DataError, Source
from trainer.datasets._folders import centre, decoded, five_crops, listed

if TYPE_CHECKING:
    from PIL import Image

    Transform = Callable[[Image.Image], Image.Image]

Crops = Literal[1, 5]
"""Parts of a test image: its centre, or its corners and its centre."""
PREFETCHED = 2
"""Batches that each worker decodes ahead."""
MAX_PIXELS = 2**24
"""Limit for a test batch, so that large images take little memory."""


def batch_of(size: int, image_size: int, crops: int = 1) -> int:
    """Return how many images to test together: `size`, or fewer if they are large."""
    return max(1, min(size, MAX_PIXELS // (crops * image_size**2)))


class StreamedSplit:
    """One split of a streamed data set. Only one pass over it may be under way at a time.

    The worker processes start with the first pass, wait between passes, and end with `close`.

    Args:
        source: where the data set's images are.
        x: paths of the images, (N,) bytes.
        y: their labels, (N,) int64.
        device: where pixels and labels go.
        crop: cuts a random part out of a training image, with torch's default generator. None: cut out the
            centre, as for testing.
        seed: the trial's seed.
        workers: number of decoding processes; 0: decode in this process.
    """

    def __init__(
        self,
        source: Source,
        x: np.ndarray,
        y: np.ndarray,
        device: torch.device,
        *,
        crop: Transform | None = None,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        self.y = torch.from_numpy(y).to(device)
        self._x = x
        self._decoder = _Decoder(source, crop, seed)
        self._device, self._workers = device, workers
        self._queue = _Queue()
        self._loader: DataLoader[Any] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def batches(self, size: int, crops: Crops = 1) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield (images, labels) in stored order, `size` at a time, or fewer if they are large.

        With five `crops`, the four corners and the centre of each image follow each other, so that there are
        five times as many images as labels.
        """
        size = batch_of(size, self._decoder.source.image_size, crops)
        places, labels = np.arange(len(self)), self.y.split(size)
        keys = (self._key(places[start : start + size], crops=crops) for start in range(0, len(self), size))
        yield from zip(self._decoded(keys, len(labels)), labels, strict=True)

    def taken(
        self, order: Tensor, starts: Iterable[int], size: int, epoch: int
    ) -> Generator[tuple[Tensor, Tensor, Tensor], None, None]:
        """Yield (images, labels, places) for each start; places is `order[start : start + size]`, int64."""
        indices, on_device, starts = order.numpy(), order.to(self._device), list(starts)
        keys = (self._key(indices[start : start + size], epoch) for start in starts)
        for start, pixels in zip(starts, self._decoded(keys, len(order) // size), strict=True):
            places = on_device[start : start + size]
            yield pixels, self.y[places], places

    def close(self) -> None:
        """End the workers."""
        self._loader = None

    def _key(self, places: np.ndarray, epoch: int | None = None, crops: Crops = 1) -> _Key:
        return _Key(self._x[places], places, epoch, crops)

    def _decoded(self, keys: Iterable[_Key], whole_pass: int) -> Iterator[Tensor]:
        """Yield uint8 pixels (N, C, H, W), on the device, for each key in turn.

        Starts at most one worker for each batch of a full pass, `whole_pass`. `keys` may hold fewer after a
        resume, but the workers serve later passes too.
        """
        try:
            with warnings.catch_warnings():
                # More workers than CPUs can be faster.
                warnings.filterwarnings("ignore", "This DataLoader will create")
                if self._loader is None:
                    self._loader = self._start(min(self._workers, whole_pass))
                self._queue.keys = keys
                batches = iter(self._loader)
            for pixels, problems in batches:
                if problems:
                    raise DataError(f"cannot decode {listed(problems)}")
                yield pixels.to(self._device, non_blocking=True)
        except (EOFError, ConnectionError) as error:  # a worker died while starting or sending a batch
            raise RuntimeError("DataLoader worker exited unexpectedly") from error

    def _start(self, workers: int) -> DataLoader[Any]:
        return DataLoader(
            self._decoder,
            batch_size=None,
            sampler=self._queue,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=PREFETCHED if workers else None,
            collate_fn=_as_it_is,
            pin_memory=self._device.type == "cuda",
            multiprocessing_context=_context() if workers else None,
            worker_init_fn=_begin_worker,
            generator=torch.Generator(),  # else it would draw from dropout's generator
        )


class _Key(NamedTuple):
    """A batch to decode."""

    x: np.ndarray
    """Paths, (N,) bytes. They are sent with each batch, so that no worker holds those of the whole set."""
    places: np.ndarray
    epoch: int | None
    """None: decode as for testing."""
    crops: Crops
    """Parts of each image; one for training."""


class _Queue:
    """The batches of the loader's next pass."""

    def __init__(self) -> None:
        self.keys: Iterable[_Key] = ()

    def __iter__(self) -> Iterator[_Key]:
        return iter(self.keys)


class _Decoder(Dataset[tuple[Tensor, list[str]]]):
    """Decodes batches. Each worker has a copy."""

    def __init__(self, source: Source, crop: Transform | None, seed: int) -> None:
        self.source, self.crop, self.seed = source, crop, seed

    def __getitem__(self, key: _Key) -> tuple[Tensor, list[str]]:
        """Return the pixels of the images, and a message for each that cannot be decoded."""
        source, places = self.source, key.places.tolist()
        pixels, problems = decoded(
            [source.root / os.fsdecode(path) for path in key.x],
            source.channels,
            source.image_size,
            lambda image, row: self._cut(image, key, places[row]),
            key.crops,
        )
        return torch.from_numpy(pixels), problems

    def _cut(self, image: Image.Image, key: _Key, place: int) -> tuple[Image.Image, ...]:
        size = self.source.resize, self.source.image_size
        if key.crops == 5:
            return five_crops(image, *size)
        if key.epoch is None or self.crop is None:
            return (centre(image, *size),)
        state = torch.get_rng_state()
        try:
            torch.default_generator.manual_seed(seeds.stream(self.seed, "decode", key.epoch, place))
            return (self.crop(image),)
        finally:
            torch.set_rng_state(state)


# --- workers -----------------------------------------------------------------------------------


SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that workers ignore: the trial handles them, and may need batches until its next checkpoint."""


def _context() -> Any:
    """Return a context that forks workers from a small process with this module, no threads and no GPU."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torchvision.transforms.v2"])
    resource_tracker.ensure_running()  # if it started below, it would unblock these signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the fork server inherits this
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _as_it_is(item: Any) -> Any:
    return item


def _begin_worker(worker: int) -> None:
    os.setpgrp()
    if signal.SIGTERM in signal.sigpending():  # it was sent to the whole group, so not for us
        signal.sigwait([signal.SIGTERM])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # the next one is for this process
    warnings.filterwarnings("ignore", message=".*[Cc]orrupt EXIF data.*")  # harmless, in some ImageNet files
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process as soon as the trial's process has ended, even if it was killed."""
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)
