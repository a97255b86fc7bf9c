"""The training loss, also of batches with mixed images or two copies of each image."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F


class Batch(NamedTuple):
    """A training batch as the network and the loss see it."""

    images: torch.Tensor
    """(N, C, H, W) float32."""
    labels: torch.Tensor
    """(K, N) int64: the K labels of each image; K is 1 unless images are mixed."""
    weights: torch.Tensor
    """(K, N) float32: the share of each label in an image; they sum to 1 over K."""
    agreement: float | None = None
    """If set, images 2i and 2i + 1 are two augmented copies of one image, and the loss adds the mean squared
    difference of their logits, times this factor."""

    @property
    def num_originals(self) -> int:
        """Number of images of the data set in the batch."""
        return self.labels.shape[1] // (1 if self.agreement is None else 2)


def plain(images: torch.Tensor, labels: torch.Tensor) -> Batch:
    """Return a batch of images with one label each, `labels` (N,)."""
    return Batch(images, labels[None], torch.ones_like(labels[None], dtype=torch.float32))


def mixed(images: torch.Tensor, labels: torch.Tensor, shares: torch.Tensor) -> Batch:
    """Return a batch of images that are mixed from `labels` (K, N), in the same `shares` (K,) for all."""
    return Batch(images, labels, shares[:, None].float().expand(labels.shape))


def training_loss(logits: torch.Tensor, batch: Batch, label_smoothing: float) -> torch.Tensor:
    """Return the loss of a step, a scalar: the mean cross-entropy, plus the disagreement of copies.

    Args:
        logits: (N, classes), float32.
        batch: the batch they belong to.
        label_smoothing: share of each target that is spread evenly over all classes (arXiv:1512.00567).
    """
    loss = F.cross_entropy(logits, targets(batch, logits.shape[1]), label_smoothing=label_smoothing)
    if batch.agreement is not None:
        loss = loss + batch.agreement * F.mse_loss(logits[0::2], logits[1::2])
    return loss


def targets(batch: Batch, num_classes: int) -> torch.Tensor:
    """Return targets for `F.cross_entropy`: labels (N,), or class probabilities (N, num_classes)."""
    if len(batch.labels) == 1:  # the weights are all 1
        return batch.labels[0]
    classes = torch.arange(num_classes, device=batch.labels.device)
    one_hot = batch.labels[..., None] == classes  # (K, N, num_classes)
    return (one_hot * batch.weights[..., None]).sum(0)


def wrong(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return how many of the batch's original images are misclassified, a scalar.

    A mixed image counts in the shares of its wrong labels, each of two copies counts half.
    """
    missed = logits.argmax(1) != batch.labels  # (K, N)
    each = (missed * batch.weights).sum(0).clamp(max=1)  # the shares may sum to 1.0000001
    return each.sum() * (batch.num_originals / batch.labels.shape[1])
