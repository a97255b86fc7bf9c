"""The first steps of a trial, to see what it takes of a device; nothing is kept of them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterator

import torch

from trainer import memory, parallel
from trainer.config import TrainConfig
from trainer.precision import autocast, like_weights
from trainer.run import EVAL_BATCH_SIZE, Run
from trainer.runtime import Runtime

FIRST_STEPS = 5
"""Before anything is timed: choosing algorithms and filling caches takes some."""


class ResourceProbe:
    """A trial that has taken its first steps and tested one batch, at its real batch sizes.

    Args:
        config: on one device; more GPUs take as much of each.
        runtime: where.

    Raises:
        torch.OutOfMemoryError: it does not fit.
    """

    def __init__(self, config: TrainConfig, runtime: Runtime) -> None:
        alone = dataclasses.replace(runtime, checkpoint=None, keep_checkpoint="none")
        self._run = Run(config, 0, alone, parallel.Group())
        self._batch_size = config.batch_size
        self._batches = self._endless()
        self._steps(FIRST_STEPS)
        self._test()
        self.memory_bytes, self.total_bytes = memory.taken(self._run.device)
        """The peak of this process, with what CUDA takes for it; and the whole device's."""

    def images_per_second(self, seconds: float = 2.0) -> float:
        """Go on training for so long and return the speed."""
        started, images = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            self._steps(FIRST_STEPS)
            images += FIRST_STEPS * self._batch_size
        return images / (time.perf_counter() - started)

    def _steps(self, number: int) -> None:
        self._run.model.train()
        for pixels, targets in itertools.islice(self._batches, number):
            self._run.train_step(pixels, targets)
        if self._run.device.type == "cuda":
            torch.cuda.synchronize(self._run.device)

    def _endless(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of the first epoch, again and again."""
        run, size = self._run, self._batch_size
        starts = [place * size for place in range(run.config.steps_per_epoch)]
        while True:
            with contextlib.closing(run.train_split.taken(run.order(0), starts, size, 0)) as batches:
                yield from batches

    @torch.no_grad()
    def _test(self) -> None:
        run = self._run
        pixels, _ = next(iter(run.test_split.batches(EVAL_BATCH_SIZE)))
        run.evaluated.eval()
        with autocast(run.config.precision, run.device):
            run.evaluated(like_weights(run.pipeline.normalise(pixels), run.model))
