"""The training loss and the training error, against torch's own and by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from trainer.loss import Batch, mixed, plain, targets, training_loss, wrong

IMAGES = torch.zeros(0)  # the loss does not look at them


def random_batch(seed: int, n: int, classes: int, parts: int) -> tuple[torch.Tensor, Batch]:
    """Return logits and a batch of images mixed of `parts`, in shares of their own."""
    source = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, classes, generator=source)
    labels = torch.randint(0, classes, (parts, n), generator=source)
    weights = torch.rand(parts, n, generator=source) + 1e-3
    return logits, Batch(IMAGES, labels, weights / weights.sum(0))


@pytest.mark.parametrize("label_smoothing", [0, 0.001, 0.1, 0.9])
def test_plain_batches_have_torchs_own_loss(label_smoothing):
    logits, batch = random_batch(0, 7, 5, 1)
    plain_batch = plain(IMAGES, batch.labels[0])
    expected = F.cross_entropy(logits, batch.labels[0], label_smoothing=label_smoothing)
    assert torch.equal(training_loss(logits, plain_batch, label_smoothing), expected)
    assert plain_batch.weights.tolist() == [[1.0] * 7]
    assert plain_batch.num_originals == 7


@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 6),
    classes=st.integers(2, 6),
    parts=st.integers(2, 4),
    label_smoothing=st.floats(0, 0.99),
)
def test_a_mixed_loss_is_the_weighted_mean_of_its_labels_losses(seed, n, classes, parts, label_smoothing):
    logits, batch = random_batch(seed, n, classes, parts)
    losses = [
        F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
        for labels in batch.labels
    ]
    expected = (torch.stack(losses) * batch.weights).sum(0).mean()
    torch.testing.assert_close(training_loss(logits, batch, label_smoothing), expected)


@given(seed=st.integers(0, 2**32), label_smoothing=st.floats(0, 0.99))
def test_parts_of_one_label_add_up_to_the_plain_loss(seed, label_smoothing):
    logits, batch = random_batch(seed, 5, 4, 3)
    same = batch._replace(labels=batch.labels[:1].expand(3, 5))
    expected = training_loss(logits, plain(IMAGES, batch.labels[0]), label_smoothing)
    torch.testing.assert_close(training_loss(logits, same, label_smoothing), expected)


def test_targets_by_hand():
    labels = torch.tensor([[0, 2], [1, 2], [0, 0], [2, 1]])
    batch = mixed(IMAGES, labels, torch.tensor([0.1, 0.2, 0.3, 0.4]))
    torch.testing.assert_close(targets(batch, 3), torch.tensor([[0.4, 0.2, 0.4], [0.3, 0.4, 0.3]]))


def test_mixed_by_hand():
    """One image, 1/4 of class 0 and 3/4 of class 1, smoothed by 0.2: (0.3, 0.7)."""
    logits = torch.tensor([[math.log(1), math.log(3)]])  # probabilities 1/4 and 3/4
    batch = mixed(IMAGES, torch.tensor([[0], [1]]), torch.tensor([0.25, 0.75]))
    expected = -(0.3 * math.log(0.25) + 0.7 * math.log(0.75))
    assert training_loss(logits, batch, 0.2).item() == pytest.approx(expected)


def test_copies_by_hand():
    """Two images of two copies each: cross-entropy log 2 or log 4, logits apart by log 3 in one class."""
    zero, three = 0.0, math.log(3)
    logits = torch.tensor([[zero, zero], [zero, three], [zero, zero], [zero, zero]])
    batch = plain(IMAGES, torch.tensor([0, 0, 1, 1]))._replace(agreement=0.1)
    cross_entropy = (3 * math.log(2) + math.log(4)) / 4
    expected = cross_entropy + 0.1 * three**2 / 4  # one of 2 x 2 differences
    assert training_loss(logits, batch, 0).item() == pytest.approx(expected)
    assert training_loss(logits, batch._replace(agreement=0.0), 0).item() == pytest.approx(cross_entropy)
    assert batch.num_originals == 2


def test_the_loss_of_copies_is_the_mean_of_two_and_their_distance():
    logits, labels = torch.randn(12, 5), torch.randint(0, 5, (6,))
    batch = plain(IMAGES, labels.repeat_interleave(2))._replace(agreement=0.3)
    first, second = logits[0::2], logits[1::2]
    expected = (F.cross_entropy(first, labels) + F.cross_entropy(second, labels)) / 2
    expected = expected + 0.3 * ((first - second) ** 2).mean()
    torch.testing.assert_close(training_loss(logits, batch, 0), expected)


def test_the_gradient_is_softmax_less_target():
    logits, batch = random_batch(3, 4, 5, 2)
    logits.requires_grad_()
    training_loss(logits, batch, 0.1).backward()
    expected = (logits.softmax(1) - (0.9 * targets(batch, 5) + 0.1 / 5)) / 4
    torch.testing.assert_close(logits.grad, expected.detach())


@pytest.mark.parametrize("share", [0.01, 0.03, 0.5])
def test_no_more_than_all_images_are_wrong(share):
    labels = torch.tensor([[0] * 7, [1] * 7])
    batch = mixed(torch.zeros(7, 1, 2, 2), labels, torch.tensor([share, 1 - share]))
    assert wrong(torch.eye(3)[[2] * 7], batch).item() == 7


def test_the_parts_of_an_image_come_to_no_more_than_it():
    areas = torch.tensor([18 * 25, 18 * 3, 10 * 25, 10 * 3], dtype=torch.float64) / 28**2  # of RICAP
    assert areas.float().sum() > 1
    batch = mixed(torch.zeros(3, 1, 2, 2), torch.zeros(4, 3, dtype=torch.int64), areas)
    assert wrong(torch.eye(3)[[1, 1, 1]], batch).item() == 3


def test_wrong_counts_images_parts_and_copies():
    logits = torch.eye(3)  # taken for 0, 1 and 2
    assert wrong(logits, plain(IMAGES, torch.tensor([0, 1, 0]))).item() == 1
    parts = mixed(IMAGES, torch.tensor([[0, 0, 0], [1, 1, 1]]), torch.tensor([0.75, 0.25]))
    assert wrong(logits, parts).item() == pytest.approx(0.25 + 0.75 + 1)
    copies = plain(IMAGES, torch.tensor([0, 0, 2, 2]))._replace(agreement=0.1)
    assert wrong(torch.eye(3)[[0, 1, 2, 2]], copies).item() == 0.5


@given(seed=st.integers(0, 2**32), parts=st.integers(1, 4))
def test_wrong_is_what_the_best_guess_leaves(seed, parts):
    logits, batch = random_batch(seed, 6, 4, parts)
    probabilities = targets(batch, 4) if parts > 1 else F.one_hot(batch.labels[0], 4).float()
    right = probabilities.gather(1, logits.argmax(1, keepdim=True)).sum()
    torch.testing.assert_close(wrong(logits, batch), 6 - right)
