"""Run the first steps of a trial to measure how much of a device it uses. Nothing is saved."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterator

import torch

from trainer import memory, parallel
from trainer.config import TrainConfig
from trainer.evaluation import predictions
from trainer.loop import Run
from trainer.runtime import Runtime

FIRST_STEPS = 5
"""Steps before anything is timed: the first ones choose algorithms and fill caches."""


class ResourceProbe:
    """The first steps of a trial and one test batch, at the real batch sizes.

    Args:
        config: runs on one device; a trial on several GPUs takes as much on each.
        runtime: where to run.

    Raises:
        torch.OutOfMemoryError: the trial does not fit.
    """

    def __init__(self, config: TrainConfig, runtime: Runtime) -> None:
        config = dataclasses.replace(config, num_gpus=1, sync_bn=False)
        alone = dataclasses.replace(runtime, checkpoint=None, keep_checkpoint="none", compile="off")
        self._run = Run(config, 0, alone, parallel.Group())
        self._batch_size = config.batch_size
        self._batches = self._endless()
        self._steps(FIRST_STEPS)
        run = self._run
        next(
            predictions(run.learner.evaluated, run.data.test, run.data.pipeline, config.precision, config.tta)
        )
        self.memory_bytes, self.total_bytes = memory.taken(self._run.device)
        """Peak memory of this process, CUDA's own share included, and the memory of the whole device."""

    def images_per_second(self, seconds: float = 2.0) -> float:
        """Train for about `seconds` more and return the speed."""
        started, images = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            self._steps(FIRST_STEPS)
            images += FIRST_STEPS * self._batch_size
        return images / (time.perf_counter() - started)

    def _steps(self, number: int) -> None:
        self._run.learner.model.train()
        for batch in itertools.islice(self._batches, number):
            self._run.learner.train_step(*batch, 0)
        if self._run.device.type == "cuda":
            torch.cuda.synchronize(self._run.device)

    def _endless(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield the batches of the first epoch over and over."""
        run, size = self._run, self._batch_size
        starts = [place * size for place in range(run.config.steps_per_epoch)]
        while True:
            with contextlib.closing(run.data.batches(0, starts)) as batches:
                yield from batches
