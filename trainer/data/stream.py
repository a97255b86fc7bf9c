"""Images that are decoded as they are needed, by worker processes ahead of the training step.

What is decoded depends on the file, the trial's seed, the epoch and the image's place alone: how many workers
there are, or where the trial was interrupted, makes no difference.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing import forkserver, resource_tracker
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainer import seeds
from trainer.datasets import DataError, Source
from trainer.datasets._folders import centre, listed, opened

if TYPE_CHECKING:
    from PIL import Image

    Transform = Callable[[Image.Image], Image.Image]

PREFETCHED = 2
"""Batches that each worker is ahead."""
MAX_PIXELS = 2**24
"""Of the images that are tested at once."""


class StreamedSplit:
    """One split of a data set whose images stay files, gone through by one reader at a time.

    Its workers start with the first pass, wait between passes, and end with `close`.

    Args:
        source: of the data set.
        x: paths of images, (N,) bytes.
        y: their labels, (N,) int64.
        device: where pixels and labels go.
        crop: takes a part of a training image, drawn from torch's default generator; None takes the centre,
            as of test images.
        seed: of the trial.
        workers: processes that decode; 0 decodes in this one.
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

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images, labels) in stored order, `size` at once or as many as take little memory."""
        size = max(1, min(size, MAX_PIXELS // self._decoder.source.image_size**2))
        places, labels = np.arange(len(self)), self.y.split(size)
        keys = (self._key(places[start : start + size]) for start in range(0, len(self), size))
        yield from zip(self._decoded(keys, len(labels)), labels, strict=True)

    def taken(
        self, order: Tensor, starts: Iterable[int], size: int, epoch: int
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield (images, labels) of `size` places of `order`, (N,) int64, from each of `starts` on."""
        places, labels, starts = order.numpy(), self.y[order.to(self._device)], list(starts)
        keys = (self._key(places[start : start + size], epoch) for start in starts)
        for start, pixels in zip(starts, self._decoded(keys, len(order) // size), strict=True):
            yield pixels, labels[start : start + size]

    def close(self) -> None:
        """End the workers."""
        self._loader = None

    def _key(self, places: np.ndarray, epoch: int | None = None) -> _Key:
        return _Key(self._x[places], places, epoch)

    def _decoded(self, keys: Iterable[_Key], whole_pass: int) -> Iterator[Tensor]:
        """Yield uint8 pixels (N, C, H, W), on the device, for each key in turn.

        Args:
            keys: of this pass, which an interrupted trial begins in the middle.
            whole_pass: how many keys a pass has at most; more workers would have nothing to do.
        """
        try:
            with warnings.catch_warnings():
                # More than there are CPUs may well pay.
                warnings.filterwarnings("ignore", "This DataLoader will create")
                if self._loader is None:
                    self._loader = self._start(min(self._workers, whole_pass))
                self._queue.keys = keys
                batches = iter(self._loader)
            for pixels, problems in batches:
                if problems:
                    raise DataError(f"cannot decode {listed(problems)}")
                yield pixels.to(self._device, non_blocking=True)
        except (EOFError, ConnectionError) as error:  # it died as it started, or handed over a batch
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
            generator=torch.Generator(),  # else it draws from the one that dropout draws from
        )


class _Key(NamedTuple):
    """A batch to decode."""

    x: np.ndarray
    """Paths, (N,) bytes: sent with each batch, as no worker needs those of a whole data set."""
    places: np.ndarray
    epoch: int | None
    """None: as for testing."""


class _Queue:
    """What a loader is to have decoded in its next pass."""

    def __init__(self) -> None:
        self.keys: Iterable[_Key] = ()

    def __iter__(self) -> Iterator[_Key]:
        return iter(self.keys)


class _Decoder(Dataset[tuple[Tensor, list[str]]]):
    """Decodes batches; each worker has a copy."""

    def __init__(self, source: Source, crop: Transform | None, seed: int) -> None:
        self.source, self.crop, self.seed = source, crop, seed

    def __getitem__(self, key: _Key) -> tuple[Tensor, list[str]]:
        """Return the pixels of images that can be decoded, and what is wrong with the others."""
        from torchvision.transforms.v2 import functional

        size = self.source.image_size
        pixels = torch.empty((len(key.places), self.source.channels, size, size), dtype=torch.uint8)
        problems = []
        for row, (x, place) in enumerate(zip(key.x, key.places.tolist(), strict=True)):
            path = self.source.root / os.fsdecode(x)
            try:
                image = opened(path, self.source.channels)
                pixels[row] = functional.pil_to_tensor(self._cut(image, key.epoch, place))
            except Exception as error:  # damaged images raise nearly anything
                problems.append(f"{path} ({error})")
        return pixels, problems

    def _cut(self, image: Image.Image, epoch: int | None, place: int) -> Image.Image:
        if epoch is None or self.crop is None:
            return centre(image, self.source.resize, self.source.image_size)
        state = torch.get_rng_state()
        try:
            torch.default_generator.manual_seed(seeds.stream(self.seed, "decode", epoch, place))
            return self.crop(image)
        finally:
            torch.set_rng_state(state)


# --- workers -----------------------------------------------------------------------------------


SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""That are for the trial, which may still need batches to its next checkpoint."""


def _context() -> Any:
    """Return how workers start: forked from a small process that has this module and no threads, no GPU."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torchvision.transforms.v2"])
    resource_tracker.ensure_running()  # else it starts below, and that unblocks these signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # which that process inherits
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _as_it_is(item: Any) -> Any:
    return item


def _begin_worker(worker: int) -> None:
    os.setpgrp()
    if signal.SIGTERM in signal.sigpending():  # sent to the trial's group
        signal.sigwait([signal.SIGTERM])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # the next is for this process alone
    warnings.filterwarnings("ignore", message=".*[Cc]orrupt EXIF data.*")  # several of ImageNet's: harmless
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the trial's has ended, however it did."""
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)
