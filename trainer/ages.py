"""Forgetting: the loss of training images by how long ago a network saw them (cifar10-fast, post 2)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from trainer.config import TrainConfig
from trainer.data.pipeline import open_splits, order_of
from trainer.data.trial import own_images
from trainer.evaluation import begin, loss_and_errors, predictions
from trainer.kept import KeptWeights
from trainer.runtime import Runtime


@dataclass(frozen=True, eq=False, slots=True)
class Ages:
    """What a network makes of the images that it was trained on, in stored order."""

    steps_ago: np.ndarray
    """Steps since the network last saw an image, (N,) int64. 1: in the last step; 0: not within an epoch."""
    losses: np.ndarray
    """Cross-entropy of each image, (N,) float32."""
    test_loss: float
    """Mean over the images that the trial was tested on."""
    num_test: int


def by_age(kept: KeptWeights, runtime: Runtime) -> Ages:
    """Return the losses of a trial's training images, and how long ago each was seen.

    Training images are shown as test images are: without augmentation, label smoothing or test-time
    augmentation, in evaluation mode. So they differ from test images in nothing but that they were seen.

    Raises:
        DataError: the data set is not available.
        ValueError: the trial did not train on all images of its batches.
    """
    if kept.config.select_examples:
        raise ValueError("select_examples left images out of each batch; which ones is not known any more")
    config, device = kept.config, torch.device(runtime.device)
    model, pipeline = begin(kept, runtime)
    train, test = open_splits(own_images(config, runtime), config, kept.seed, device, runtime.num_workers)
    losses = []
    with contextlib.closing(train), contextlib.closing(test):
        for logits, labels in predictions(model, train, pipeline, config.precision):
            losses.append(F.cross_entropy(logits, labels, reduction="none").cpu())
        test_loss, *_ = loss_and_errors(model, test, pipeline, config.precision)
    return Ages(steps_ago(config, kept.seed, kept.epoch), torch.cat(losses).numpy(), test_loss, len(test))


def steps_ago(config: TrainConfig, seed: int, epoch: int) -> np.ndarray:
    """Return the steps since each training image was last seen, (N,) int64, at the end of an epoch.

    1 means in the last step, 0 not within as many steps as an epoch has. Epochs count from 1.
    """
    now = min(epoch * config.steps_per_epoch, config.total_steps)
    seen = np.zeros(config.num_train, np.int64)  # the step, counted from 1
    for earlier in range(max(epoch - 2, 0), epoch):
        first = earlier * config.steps_per_epoch
        steps = min(config.steps_per_epoch, now - first)
        order = order_of(config, seed, earlier).numpy()[: steps * config.global_batch_size]
        seen[order] = first + 1 + np.arange(len(order)) // config.global_batch_size
    ago = now + 1 - seen
    return np.where((seen > 0) & (ago <= config.steps_per_epoch), ago, 0)
