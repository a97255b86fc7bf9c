"""Networks on test sets: during training, and from the weights that a trial has kept."""

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

from trainer import checkpoint, data
from trainer.checkpoint import CheckpointError
from trainer.config import Precision, TrainConfig
from trainer.data import splits
from trainer.data.pipeline import AnySplit, Pipeline, open_splits
from trainer.datasets import DatasetOptions, DataSpec
from trainer.models import ModelOptions
from trainer.precision import autocast, like_weights, set_matmul_precision
from trainer.runtime import Runtime
from trainer.schema import ConfigError
from trainer.version import VERSION

EVAL_BATCH_SIZE = 1000

TTA = Literal["none", "flip", "shift", "flip+shift"]
"""Test-time augmentation: which views of an image are averaged. `flip` adds its mirror image, `shift` its
shifts by one pixel up, down, left and right; `flip+shift` also mirrors the shifts."""

SHIFTS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
"""Pixels down and to the right. What a shift uncovers repeats the edge."""


@torch.no_grad()
def predictions(
    model: nn.Module, split: AnySplit, pipeline: Pipeline, precision: Precision, tta: TTA = "none"
) -> Iterator[tuple[list[torch.Tensor], torch.Tensor]]:
    """Run a network over a split, in stored order, a batch at a time.

    Yields:
        The logits of each view of the images, (N, classes) float32, and the labels, (N,).
    """
    model.eval()
    for pixels, labels in split.batches(EVAL_BATCH_SIZE):
        logits = []
        for view in _views(pipeline.normalise(pixels), tta):
            with autocast(precision, pixels.device):
                found = model(like_weights(view, model))
            logits.append(found.float())
        yield logits, labels


def loss_and_error(
    model: nn.Module, split: AnySplit, pipeline: Pipeline, precision: Precision
) -> tuple[float, float]:
    """Return a network's mean cross-entropy over a split, and its error as a fraction."""
    totals = torch.zeros(2, dtype=torch.float64, device=split.y.device)
    for (logits,), labels in predictions(model, split, pipeline, precision):
        totals[0] += F.cross_entropy(logits, labels, reduction="sum")
        totals[1] += (logits.argmax(1) != labels).sum()
    loss, wrong = (totals / len(split)).tolist()
    return loss, wrong


@dataclass(frozen=True, eq=False, slots=True)
class KeptWeights:
    """The weights that a trial has kept."""

    config: TrainConfig
    seed: int
    trial_id: str | None
    which: str
    """The epoch they are from: `last` or `best`."""
    epoch: int
    """Its number, counted from 1."""
    state_dict: dict[str, torch.Tensor]

    def network(self) -> nn.Module:
        """Return the network with these weights, on the CPU, ready for evaluation."""
        model = self.config.model.build(self.config.dataset.spec)
        model.to(next(value.dtype for value in self.state_dict.values() if value.is_floating_point()))
        model.load_state_dict(self.state_dict)
        return model.to(memory_format=torch.channels_last).eval()


def load_weights(path: Path) -> KeptWeights:
    """Read the weights that a trial has kept. Only tensors and plain values are unpickled.

    Raises:
        CheckpointError: the file is missing, damaged, or holds no kept weights; or this version of the
            trainer does not know its config or its network.
    """
    try:
        state = checkpoint.load(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; it is not, or no longer, a file of kept weights") from None
    if state is None:
        raise CheckpointError("there is no such file")
    keys = {"version": int, "config": dict, "seed": int, "kept": str, "epoch": int, "state_dict": dict}
    if not all(isinstance(state.get(key), kind) for key, kind in keys.items()):
        raise CheckpointError(
            "holds no kept weights: it is the checkpoint of a running trial, or from another program"
        )
    if state["version"] != VERSION:
        raise CheckpointError(f"is from trainer version {state['version']}, this is version {VERSION}")
    try:
        config = TrainConfig.from_dict(state["config"])
    except ConfigError as error:
        raise CheckpointError(f"has a config that cannot be read: {error}") from None
    _check_fit(config, state["state_dict"])
    trial_id = state.get("trial_id")
    trial_id = trial_id if isinstance(trial_id, str) else None
    return KeptWeights(config, state["seed"], trial_id, state["kept"], state["epoch"], state["state_dict"])


def _check_fit(config: TrainConfig, state_dict: dict[str, Any]) -> None:
    """Refuse weights that do not fit the network, before allocating memory for it."""
    try:
        network = on_meta(config.model, config.dataset.spec)
    except Exception as error:  # a crafted file may ask for impossible sizes
        raise CheckpointError(f"has a network that cannot be built: {error}") from None
    wanted = {name: _kind(value) for name, value in network.state_dict().items()}
    found = {name: _kind(value) for name, value in state_dict.items()}
    wrong = sorted(str(name) for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        raise CheckpointError(f"has weights that are not those of {config.model.label}: {wrong[0]}")


def _kind(value: Any) -> tuple[torch.Size, bool] | None:
    """Return what two weights of one name must have in common; None if `value` is no weight."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        return None
    return value.shape, value.is_floating_point()


def on_meta(options: ModelOptions, spec: DataSpec) -> nn.Module:
    """Return a network whose weights take no memory: you can count and compare them, not use them."""
    with torch.device("meta"):
        return options.build(spec)


@dataclass(frozen=True, eq=False, slots=True)
class Evaluation:
    """A network's predictions for every image of a split, in stored order."""

    labels: np.ndarray  # (N,) int64
    probabilities: np.ndarray  # (N, classes) float32
    loss: float | None
    """Mean negative log-likelihood of the averaged probabilities; None if it is not finite."""
    classes: tuple[str, ...] | None = None
    """Names of the classes, where they are known."""

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
        """Fraction of each class's images that are misclassified; None for a class without images."""
        confusion = self.confusion
        pairs = zip(confusion.diagonal().tolist(), confusion.sum(1).tolist(), strict=True)
        return [(images - right) / images if images else None for right, images in pairs]


def evaluate(
    kept: KeptWeights,
    *,
    dataset: DatasetOptions | None = None,
    tta: TTA = "none",
    runtime: Runtime | None = None,
) -> Evaluation:
    """Run kept weights over a test set, in the precision they were trained in.

    Args:
        kept: the weights.
        dataset: whose test set to use. None: the images that gave the trial's own test error, which are held
            out of the training set if its config has a `val_ratio`. Both are normalised as in training.
        tta: views whose probabilities (not logits) are averaged, with equal weights.
        runtime: device, threads and data directories.

    Raises:
        ValueError: the data set's image size, channels or number of classes differ from the network's.
        DataError: the data set is not available.
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
    for logits, labels in predictions(model, split, pipeline, config.precision, tta):
        views = torch.stack([view.log_softmax(1) for view in logits])
        scores = views.logsumexp(0) - math.log(len(views))  # logarithms of the mean probabilities
        total += F.nll_loss(scores, labels, reduction="sum")
        found.append(scores.exp().cpu())
    loss = (total / len(split)).item()
    return Evaluation(
        labels=split.y.cpu().numpy(),
        probabilities=torch.cat(found).numpy(),
        loss=loss if math.isfinite(loss) else None,
        classes=(dataset or config.dataset).class_names(runtime.data_dir),
    )


def check_same_kind(dataset: DatasetOptions, config: TrainConfig) -> None:
    """Raise ValueError unless a data set has the image shape and number of classes of the config's own."""
    for name in ("channels", "image_size", "num_classes"):
        found, wanted = getattr(dataset.spec, name), getattr(config.dataset.spec, name)
        if found != wanted:
            raise ValueError(
                f"data set {dataset.name!r} has {name} {found}, "
                f"the network was trained on {config.dataset.name!r} with {wanted}"
            )


def _views(images: torch.Tensor, tta: TTA) -> Iterator[torch.Tensor]:
    """Yield the views of normalised images (N, C, H, W)."""
    height, width = images.shape[2:]
    shifted = [images]
    if "shift" in tta:
        padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
        shifted = [padded[:, :, 1 - down :, 1 - right :][:, :, :height, :width] for down, right in SHIFTS]
    for view in shifted:
        yield view
        if "flip" in tta:
            yield view.flip(3)
