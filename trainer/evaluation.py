"""What kept weights are worth: a stored checkpoint on a test set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import trainer
from trainer import checkpoint, data, splits
from trainer.checkpoint import CheckpointError
from trainer.config import TrainConfig
from trainer.datasets import DatasetOptions, DataSpec
from trainer.models import ModelOptions
from trainer.pipeline import Pipeline, open_splits
from trainer.precision import autocast, like_weights, set_matmul_precision
from trainer.run import EVAL_BATCH_SIZE
from trainer.runtime import Runtime
from trainer.schema import ConfigError

TTA = Literal["none", "flip", "shift", "flip+shift"]
"""Views of a test image whose probabilities are averaged: as it is; its mirror image too; its
shifts by one pixel up, down, left and right too; all of these mirrored too."""

SHIFTS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
"""Pixels down and to the right. What a shift uncovers repeats the edge."""


@dataclass(frozen=True, eq=False, slots=True)
class Checkpoint:
    """The weights that a trial has kept."""

    config: TrainConfig
    seed: int
    trial_id: str | None
    kept: str
    """Whose they are: the last epoch's, or the best one's."""
    epoch: int
    """Counted from 1."""
    state_dict: dict[str, torch.Tensor]

    def network(self) -> nn.Module:
        """Return the network with these weights, on the CPU, ready for evaluation."""
        model = self.config.model.build(self.config.dataset.spec)
        model.to(next(value.dtype for value in self.state_dict.values() if value.is_floating_point()))
        model.load_state_dict(self.state_dict)
        return model.to(memory_format=torch.channels_last).eval()


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what a trial has kept. Nothing is unpickled but tensors and plain values.

    Raises:
        CheckpointError: there is no such file; it is damaged or not a kept checkpoint; or its network
            or its config is none that this version of the trainer knows.
    """
    try:
        state = checkpoint.load(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; it is not, or no longer, what a trial has kept") from None
    if state is None:
        raise CheckpointError("there is no such file")
    keys = {"version": int, "config": dict, "seed": int, "kept": str, "epoch": int, "state_dict": dict}
    if not all(isinstance(state.get(key), kind) for key, kind in keys.items()):
        raise CheckpointError("is no kept checkpoint: a trial under way or another program wrote it")
    if state["version"] != trainer.VERSION:
        raise CheckpointError(f"is of trainer version {state['version']}, this is {trainer.VERSION}")
    try:
        config = TrainConfig.from_dict(state["config"])
    except ConfigError as error:
        raise CheckpointError(f"has a config that cannot be read: {error}") from None
    _check_fit(config, state["state_dict"])
    trial_id = state.get("trial_id")
    return Checkpoint(
        config=config,
        seed=state["seed"],
        trial_id=trial_id if isinstance(trial_id, str) else None,
        kept=state["kept"],
        epoch=state["epoch"],
        state_dict=state["state_dict"],
    )


def _check_fit(config: TrainConfig, state_dict: dict[str, Any]) -> None:
    """Refuse weights that are not the network's, before memory for it is taken."""
    try:
        network = on_meta(config.model, config.dataset.spec)
    except Exception as error:  # sizes that are no network's, in a file made to harm
        raise CheckpointError(f"has a network that cannot be built: {error}") from None
    wanted = {name: _kind(value) for name, value in network.state_dict().items()}
    found = {name: _kind(value) for name, value in state_dict.items()}
    wrong = sorted(str(name) for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        raise CheckpointError(f"has weights that are not those of {config.model.label}: {wrong[0]}")


def _kind(value: Any) -> tuple[torch.Size, bool] | None:
    """Return what must agree between two values of one name; None of what is no weight."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        return None
    return value.shape, value.is_floating_point()


def on_meta(options: ModelOptions, spec: DataSpec) -> nn.Module:
    """Return a network without memory for its weights: enough to count and to compare."""
    with torch.device("meta"):
        return options.build(spec)


@dataclass(frozen=True, eq=False, slots=True)
class Evaluation:
    """What a network says of every image of a split, in stored order."""

    labels: np.ndarray  # (N,) int64
    probabilities: np.ndarray  # (N, classes) float32
    loss: float | None
    """Mean negative log-likelihood of the averaged probabilities; None if it is not finite."""
    classes: tuple[str, ...] | None = None
    """What the classes are called, where that is known."""

    @property
    def predictions(self) -> np.ndarray:
        """The most probable class of each image, (N,)."""
        predictions: np.ndarray = self.probabilities.argmax(1)
        return predictions

    @property
    def error(self) -> float:
        """A fraction."""
        return float((self.predictions != self.labels).mean())

    @property
    def confusion(self) -> np.ndarray:
        """Number of images by label (rows) and prediction (columns)."""
        classes = self.probabilities.shape[1]
        counts = np.bincount(self.labels * classes + self.predictions, minlength=classes**2)
        return counts.reshape(classes, classes)

    @property
    def class_errors(self) -> list[float | None]:
        """Fraction of each class's images that is taken for another; None of a class without images."""
        confusion = self.confusion
        pairs = zip(confusion.diagonal().tolist(), confusion.sum(1).tolist(), strict=True)
        return [(images - right) / images if images else None for right, images in pairs]


@torch.no_grad()
def evaluate(
    kept: Checkpoint,
    *,
    dataset: DatasetOptions | None = None,
    tta: TTA = "none",
    runtime: Runtime | None = None,
) -> Evaluation:
    """Run a kept network over a test set, in the precision it was trained in.

    Args:
        kept: the checkpoint.
        dataset: whose test set; None is what the trial itself measured its test error on, which is held
            out of the training set where `val_ratio` says so. Either is normalised as for training.
        tta: views whose probabilities (not logits) are averaged, all of equal weight.
        runtime: device, threads and data directories.

    Raises:
        ValueError: the data set's images or classes are others than the network's.
        DataError: the data set is not to be had.
    """
    config, runtime = kept.config, runtime or Runtime()
    check_same_kind(dataset or config.dataset, config)
    torch.set_num_threads(runtime.threads)
    set_matmul_precision(config.precision)
    device = torch.device(runtime.device)
    images = data.load(dataset or config.dataset, runtime.data_dir, runtime.cache_dir)
    if dataset is None:
        images = splits.split(images, config.train_size, config.val_ratio, config.split_seed)
    _, split = open_splits(images, config, kept.seed, device, runtime.num_workers)
    pipeline = Pipeline(config.dataset.spec, (), device)
    model = kept.network().to(device)
    found, total = [], torch.zeros((), dtype=torch.float64, device=device)
    for pixels, targets in split.batches(EVAL_BATCH_SIZE):
        views = []
        for view in _views(pipeline.normalise(pixels), tta):
            with autocast(config.precision, device):
                logits = model(like_weights(view, model))
            views.append(logits.float().log_softmax(1))
        scores = torch.stack(views).logsumexp(0) - math.log(len(views))  # the mean, in logarithms
        total += F.nll_loss(scores, targets, reduction="sum")
        found.append(scores.exp().cpu())
    loss = (total / len(split)).item()
    return Evaluation(
        labels=split.y.cpu().numpy(),
        probabilities=torch.cat(found).numpy(),
        loss=loss if math.isfinite(loss) else None,
        classes=(dataset or config.dataset).class_names(runtime.data_dir),
    )


def check_same_kind(dataset: DatasetOptions, config: TrainConfig) -> None:
    """Raise ValueError unless a data set has the shape and the number of classes of a config's own."""
    for name in ("channels", "image_size", "num_classes"):
        found, wanted = getattr(dataset.spec, name), getattr(config.dataset.spec, name)
        if found != wanted:
            raise ValueError(
                f"data set {dataset.name!r} has {name} {found}, "
                f"the network was trained on {config.dataset.name!r} with {wanted}"
            )


def _views(images: torch.Tensor, tta: TTA) -> Iterator[torch.Tensor]:
    """Yield the views of normalised images (N, C, H, W)."""
    for view in _shifted(images) if "shift" in tta else [images]:
        yield view
        if "flip" in tta:
            yield view.flip(3)


def _shifted(images: torch.Tensor) -> Iterator[torch.Tensor]:
    height, width = images.shape[2:]
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    for down, right in SHIFTS:
        yield padded[:, :, 1 - down :, 1 - right :][:, :, :height, :width]
