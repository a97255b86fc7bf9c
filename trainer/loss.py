"""The training loss, over targets that mixing augmentations may have made fractional."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F


class Batch(NamedTuple):
    """A training batch as the network and the loss see it."""

    images: torch.Tensor
    """(N, C, H, W) float32."""
    labels: torch.Tensor
    """(K, N) int64: the K labels of each image; K is 1 unless images were mixed."""
    weights: torch.Tensor
    """(K, N) float32: how much of each label an image is; they sum to 1 over K."""


def plain(images: torch.Tensor, labels: torch.Tensor) -> Batch:
    """Return the batch of images that each are all of their one label, (N,)."""
    return Batch(images, labels[None], torch.ones_like(labels[None], dtype=torch.float32))


def cross_entropy(logits: torch.Tensor, batch: Batch, label_smoothing: float) -> torch.Tensor:
    """Return the mean cross-entropy of (N, classes) logits: sum over k of weight x loss of label k."""
    if len(batch.labels) == 1:  # the weights are all 1
        return F.cross_entropy(logits, batch.labels[0], label_smoothing=label_smoothing)
    losses = [
        F.cross_entropy(logits, y, label_smoothing=label_smoothing, reduction="none") for y in batch.labels
    ]
    return (torch.stack(losses) * batch.weights).sum(0).mean()


def wrong(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return how many images were taken for something else, counting parts of mixed ones: a scalar."""
    missed = logits.argmax(1) != batch.labels  # (K, N)
    return (missed * batch.weights).sum()
