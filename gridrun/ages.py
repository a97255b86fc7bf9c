"""The loss of training images by how long ago a network saw them, from the kept weights of a trial."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gridrun.errors import GridrunError, StoreError
from trainer import Runtime, files

if TYPE_CHECKING:
    from trainer.ages import Ages
    from trainer.kept import KeptWeights

MAX_BINS = 20


class Bin(NamedTuple):
    """The images that were last seen between two steps, both included."""

    first: int
    last: int
    images: int
    loss: float | None
    """Their mean loss; None if it is not finite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgeReport:
    """A checkpoint, and its losses by age."""

    path: Path
    checkpoint: KeptWeights
    ages: Ages

    @property
    def bins(self) -> Iterator[Bin]:
        """At most `MAX_BINS` ranges of steps ago, as equal as whole steps allow, that have images."""
        steps = self.checkpoint.config.steps_per_epoch
        number = min(steps, MAX_BINS)
        for i in range(number):
            first, last = i * steps // number + 1, (i + 1) * steps // number
            inside = (self.ages.steps_ago >= first) & (self.ages.steps_ago <= last)
            if inside.any():
                loss = float(self.ages.losses[inside].mean(dtype="float64"))
                yield Bin(first, last, int(inside.sum()), _finite(loss))

    @property
    def test_loss(self) -> float | None:
        """None if it is not finite."""
        return _finite(self.ages.test_loss)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON has it."""
        checkpoint = self.checkpoint
        return {
            "checkpoint": str(self.path),
            "trial_id": checkpoint.trial_id,
            "seed": checkpoint.seed,
            "model": checkpoint.config.model.label,
            "kept": checkpoint.which,
            "epoch": checkpoint.epoch,
            "steps_per_epoch": checkpoint.config.steps_per_epoch,
            "by_age": [
                {"steps_ago": [one.first, one.last], "images": one.images, "loss": one.loss}
                for one in self.bins
            ],
            "test_images": self.ages.num_test,
            "test_loss": self.test_loss,
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def report_by_age(path: Path, runtime: Runtime) -> AgeReport:
    """Compute the losses of a checkpoint file's training images by their age. Imports torch.

    Raises:
        StoreError: the file cannot be used.
        GridrunError: the data set cannot be read, or the trial did not train on whole batches.
    """
    from trainer.ages import by_age
    from trainer.checkpoint import CheckpointError
    from trainer.datasets import DataError
    from trainer.kept import load_weights

    try:
        checkpoint = load_weights(path)
    except CheckpointError as error:
        raise StoreError(f"{path}: {error}") from None
    try:
        return AgeReport(path=path, checkpoint=checkpoint, ages=by_age(checkpoint, runtime))
    except (DataError, ValueError) as error:
        raise GridrunError(str(error)) from None


def save_ages(ages: Ages, path: Path) -> None:
    """Write one Parquet row for each training image: index, steps_ago (0: not within an epoch), loss.

    Raises:
        StoreError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"index": range(len(ages.losses)), "steps_ago": ages.steps_ago, "loss": ages.losses}
    try:
        with files.replacing(path) as partial:
            pq.write_table(pa.table(columns), partial, compression="zstd")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from None
