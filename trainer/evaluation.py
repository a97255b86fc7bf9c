"""Networks on test sets: during training, and from the weights that a trial has kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from trainer import data
from trainer.config import NEEDS_FILES, Precision, TrainConfig
from trainer.data.pipeline import AnySplit, Pipeline, Split, open_splits
from trainer.data.statistics import normalised_spec
from trainer.data.stream import Crops, StreamedSplit
from trainer.data.trial import own_images
from trainer.datasets import DatasetOptions
from trainer.kept import KeptWeights
from trainer.precision import autocast, like_weights, set_matmul_precision
from trainer.runtime import Runtime

EVAL_BATCH_SIZE = 1000
SMALLEST = torch.finfo(torch.float32).tiny
"""Smaller averaged probabilities count as this one, so that losses stay finite."""
TOP = 5
"""Most probable classes that the top-5 error looks at."""

TTA = Literal["none", "flip", "shift", "flip+shift", "six_views", "six_views_equal", "ten_crop"]
"""Test-time augmentation: which views of an image are averaged. A trial knows some of these."""


class Views(NamedTuple):
    """The views of an image whose logits, or probabilities, are averaged."""

    shifts: Mapping[tuple[int, int], float]
    """Weight of each shift, in pixels down and to the right; the weights sum to 1."""
    border: Literal["reflect", "replicate"] = "replicate"
    """What a shift uncovers, as in `F.pad`."""
    mirrored: bool = False
    """Whether each shift shares its weight with its mirror image."""
    crops: Crops = 1
    """Parts of an image file that share these weights equally."""
    of_probabilities: bool = False
    """Whether probabilities are averaged, not logits."""


_CROSS = dict.fromkeys(((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)), 1 / 5)
VIEWS: Mapping[TTA, Views] = {
    "none": Views({(0, 0): 1.0}),
    "flip": Views({(0, 0): 1.0}, mirrored=True),
    "shift": Views(_CROSS),
    "flip+shift": Views(_CROSS, mirrored=True),
    "six_views_equal": Views(
        dict.fromkeys(((0, 0), (-1, -1), (1, 1)), 1 / 3), border="reflect", mirrored=True
    ),
    "six_views": Views({(0, 0): 1 / 2, (-1, -1): 1 / 4, (1, 1): 1 / 4}, border="reflect", mirrored=True),
    "ten_crop": Views({(0, 0): 1.0}, mirrored=True, crops=5, of_probabilities=True),
}


@torch.no_grad()
def predictions(
    model: nn.Module,
    split: AnySplit,
    pipeline: Pipeline,
    precision: Precision,
    tta: TTA = "none",
    least_confident: float = 1.0,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Run a network over a split, in stored order, a batch at a time.

    Args:
        model: the network.
        split: the images; not streamed if `least_confident` is below 1, streamed for `ten_crop`.
        pipeline: normalises them.
        precision: of the forward pass.
        tta: views whose logits, for `ten_crop` probabilities, are averaged.
        least_confident: share of the images, rounded up, that have their views averaged: those whose largest
            probability is lowest. Of the others, only the image itself counts.

    Yields:
        The logits, (N, classes) float32, and the labels, (N,). Of averaged probabilities, the logarithms.
    """

    def averaged(pixels: torch.Tensor, views: Views) -> torch.Tensor:
        mean = torch.zeros((), device=pixels.device)
        for weight, view in _views(pipeline.normalise(pixels), views):
            with autocast(precision, pixels.device):
                logits = model(like_weights(view, model)).float()
            mean = mean + weight * (logits.softmax(1) if views.of_probabilities else logits)
        found: torch.Tensor = mean.unflatten(0, (-1, views.crops)).mean(1)
        return found.clamp(min=SMALLEST).log() if views.of_probabilities else found

    model.eval()
    views = VIEWS[tta]
    if least_confident == 1:
        if isinstance(split, StreamedSplit):
            batches = split.batches(EVAL_BATCH_SIZE, views.crops)
        else:
            assert views.crops == 1
            batches = split.batches(EVAL_BATCH_SIZE)
        for pixels, labels in batches:
            yield averaged(pixels, views), labels
        return
    assert isinstance(split, Split)
    logits = torch.cat([averaged(pixels, VIEWS["none"]) for pixels, _ in split.batches(EVAL_BATCH_SIZE)])
    order = logits.softmax(1).amax(1).argsort(stable=True)
    number = math.ceil(round(least_confident * len(split), 6))  # 0.07 * 100 is 7.000000000000001
    for places in order[:number].split(EVAL_BATCH_SIZE):
        logits[places] = averaged(split.x[places], views)
    yield from zip(logits.split(EVAL_BATCH_SIZE), split.y.split(EVAL_BATCH_SIZE), strict=True)


def _views(images: torch.Tensor, views: Views) -> Iterator[tuple[float, torch.Tensor]]:
    """Yield the weights and the views of normalised images (N, C, H, W)."""
    height, width = images.shape[2:]
    for (down, right), weight in views.shifts.items():
        view = images
        if down or right:
            padded = F.pad(images, (1, 1, 1, 1), mode=views.border)
            view = padded[:, :, 1 - down :, 1 - right :][:, :, :height, :width]
        if views.mirrored:
            weight /= 2
            yield weight, view.flip(3)
        yield weight, view


def loss_and_errors(
    model: nn.Module,
    split: AnySplit,
    pipeline: Pipeline,
    precision: Precision,
    tta: TTA = "none",
    least_confident: float = 1.0,
) -> tuple[float, float, float | None]:
    """Return a network's mean cross-entropy over a split, its error and its top-5 error. See `predictions`.

    Errors are fractions. With `TOP` classes or fewer there is no top-5 error.
    """
    totals = torch.zeros(3, dtype=torch.float64, device=split.y.device)
    for logits, labels in predictions(model, split, pipeline, precision, tta, least_confident):
        totals[0] += F.cross_entropy(logits, labels, reduction="sum")
        totals[1] += (logits.argmax(1) != labels).sum()
        if has_top5 := logits.shape[1] > TOP:
            totals[2] += (logits.topk(TOP).indices != labels[:, None]).all(1).sum()
    loss, wrong, wrong_of_top5 = (totals / len(split)).tolist()
    return loss, wrong, wrong_of_top5 if has_top5 else None


@dataclass(frozen=True, eq=False, slots=True)
class Evaluation:
    """A network's predictions for every image of a split, in stored order."""

    labels: np.ndarray  # (N,) int64
    probabilities: np.ndarray  # (N, classes) float32
    loss: float | None
    """Mean cross-entropy; None if it is not finite."""
    classes: tuple[str, ...] | None = None
    """Names of the classes, where they are known."""
    tta: TTA = "none"
    tta_least_confident: float = 1.0
    """Share of the images that had their views averaged."""

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
    def top5_error(self) -> float | None:
        """A fraction; None with `TOP` classes or fewer."""
        if self.probabilities.shape[1] <= TOP:
            return None
        likeliest = np.argpartition(self.probabilities, -TOP, axis=1)[:, -TOP:]
        return float((likeliest != self.labels[:, None]).all(1).mean())

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
    tta: TTA | None = None,
    runtime: Runtime | None = None,
) -> Evaluation:
    """Run kept weights over a test set, in the precision they were trained in.

    Args:
        kept: the weights.
        dataset: whose test set to use. None: the images that gave the trial's own test error, which are held
            out of the training set if its config holds any out. Both are normalised as in training.
        tta: views that are averaged, for all images. None: as the trial was tested.
        runtime: device, threads and data directories.

    Raises:
        ValueError: the data set's image size, channels or number of classes differ from the network's; or it
            is streamed and the trial's `tta_least_confident` is below 1, or not streamed for `ten_crop`.
        DataError: the data set is not available.
    """
    config, runtime = kept.config, runtime or Runtime()
    check_same_kind(dataset or config.dataset, config)
    views, share = (config.tta, config.tta_least_confident) if tta is None else (tta, 1.0)
    if dataset and dataset.spec.streamed and share < 1:
        problem = "is streamed, which tta_least_confident does not allow; choose a tta for all images"
        raise ValueError(f"data set {dataset.name!r} {problem}")
    whole = dataset or config.dataset
    if VIEWS[views].crops > 1 and not whole.spec.streamed:
        raise ValueError(f"data set {whole.name!r} is not streamed, but tta {views!r} {NEEDS_FILES}")
    model, pipeline = begin(kept, runtime)
    device = torch.device(runtime.device)
    if dataset is None:
        images = own_images(config, runtime)
    else:
        images = data.load(dataset, runtime.data_dir, runtime.cache_dir)
    images = images._replace(train_x=images.train_x[:0], train_y=images.train_y[:0])  # need no memory
    _, split = open_splits(images, config, kept.seed, device, runtime.num_workers)
    found, total = [], torch.zeros((), dtype=torch.float64, device=device)
    for logits, labels in predictions(model, split, pipeline, config.precision, views, share):
        total += F.cross_entropy(logits, labels, reduction="sum")
        found.append(logits.softmax(1).cpu())
    loss = (total / len(split)).item()
    return Evaluation(
        labels=split.y.cpu().numpy(),
        probabilities=torch.cat(found).numpy(),
        loss=loss if math.isfinite(loss) else None,
        classes=(dataset or config.dataset).class_names(runtime.data_dir),
        tta=views,
        tta_least_confident=share,
    )


def begin(kept: KeptWeights, runtime: Runtime) -> tuple[nn.Module, Pipeline]:
    """Return a network on its device, and what normalises images as in training, without augmentation."""
    config, device = kept.config, torch.device(runtime.device)
    torch.set_num_threads(runtime.threads)
    set_matmul_precision(config.precision)
    spec, pixels = config.dataset.spec, None
    if config.normalisation != "per_channel":
        own = own_images(config, runtime)
        spec = normalised_spec(config, own)
        if config.normalisation == "per_pixel":
            pixels = torch.from_numpy(own.train_x)
    return kept.network().to(device), Pipeline(spec, (), device, pixels=pixels)


def check_same_kind(dataset: DatasetOptions, config: TrainConfig) -> None:
    """Raise ValueError unless a data set has the image shape and number of classes of the config's own."""
    for name in ("channels", "image_size", "num_classes"):
        found, wanted = getattr(dataset.spec, name), getattr(config.dataset.spec, name)
        if found != wanted:
            raise ValueError(
                f"data set {dataset.name!r} has {name} {found}, "
                f"the network was trained on {config.dataset.name!r} with {wanted}"
            )
