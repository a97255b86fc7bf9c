"""What a trial measures. Torch-free. Errors are fractions. None: a number is not finite, or the test set
was not measured after that epoch (`eval_every`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """The numbers of one epoch."""

    epoch: int
    """Counted from 1."""
    lr: float
    """Learning rate of the epoch's last step."""
    train_loss: float | None
    train_error: float | None
    """On the augmented training images, with the weights at each step."""
    test_loss: float | None
    test_error: float | None
    train_seconds: float
    """Time of the training steps, without tests and checkpoints."""
    top5_error: float | None = None
    """Test images whose class is not among the five most probable. None also for a data set of five classes
    or fewer."""


def best_of(epochs: Sequence[Epoch]) -> Epoch | None:
    """Return the first epoch with the lowest test error, None if none was measured."""
    measured = [epoch for epoch in epochs if epoch.test_error is not None]
    return min(measured, key=lambda epoch: epoch.test_error or 0.0, default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """The result of a trial that has ended."""

    status: Literal["done", "diverged"]
    """diverged: a loss became non-finite, and the trial ended with that epoch."""
    epochs: tuple[Epoch, ...]
    num_params: int
    num_images: int
    """Images in the batches of all steps: repeats count, and what `select_examples` leaves out counts too."""
    time_to_train_seconds: float | None
    """Time until the network is ready and tested, as speed runs count it: preparation such as whitening,
    all training steps, and the last test with its views. Reading the data, building and compiling the
    network, earlier tests and checkpoints are not in it. None: the trial diverged."""
    peak_memory_mib: float | None
    """On a GPU its memory (the first one's), on a CPU that of the process."""
    resumes: int
    """How often the trial has resumed from a checkpoint."""
    compiled: bool = False
    """Whether the network that was trained was compiled (`trainer.compiling`)."""
    notes: tuple[str, ...] = ()
    """Messages about the trial, such as that a checkpoint could not be used."""

    @property
    def train_seconds(self) -> float:
        """Time of all training steps."""
        return sum(epoch.train_seconds for epoch in self.epochs)

    @property
    def images_per_second(self) -> float:
        """Training throughput over the whole trial."""
        return self.num_images / self.train_seconds

    @property
    def best(self) -> Epoch | None:
        """The first epoch with the lowest test error."""
        return best_of(self.epochs)
