"""Augmentations of whole batches: laws of what is drawn, images and labels by hand, whole trainings."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from collections import Counter
from typing import Any

import any_config
import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tiny import TinyNet, figures
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import v2

from trainer import Runtime, TrainConfig
from trainer.augmentations import (
    PIXEL_STAGES,
    AugmentationOptions,
    BatchAugmentation,
    FileAugmentation,
    ImageAugmentation,
    augmentations,
)
from trainer.augmentations._draws import integers_below, symmetric_beta
from trainer.augmentations.cutmix import CutMix, cutmix, draw_box
from trainer.augmentations.cutout import Cutout
from trainer.augmentations.dual_cutout import DualCutout
from trainer.augmentations.horizontal_flip import HorizontalFlip
from trainer.augmentations.mixup import Mixup, mixup
from trainer.augmentations.policy import operations
from trainer.augmentations.random_crop import RandomCrop
from trainer.augmentations.random_erasing import RandomErasing
from trainer.augmentations.ricap import RICAP, part_sizes, ricap
from trainer.datasets import datasets
from trainer.loop import Interrupted, train
from trainer.loss import Batch, targets, training_loss, wrong
from trainer.schedules.constant import Constant

OF_BATCHES = [
    name for name in augmentations.names() if issubclass(augmentations.get(name), BatchAugmentation)
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(n: int, height: int, width: int, channels: int = 2) -> torch.Tensor:
    """Return (n, channels, height, width) images, every number of which tells where it comes from."""
    return torch.arange(n * channels * height * width, dtype=torch.float32).view(n, channels, height, width)


@pytest.fixture(params=OF_BATCHES)
def options(request: pytest.FixtureRequest) -> BatchAugmentation:
    """Return each augmentation of batches with its defaults."""
    return augmentations.get(request.param)()


# --- all of them -------------------------------------------------------------------------------


def test_what_a_batch_looks_like(options):
    x, y = torch.randn(8, 3, 24, 20), torch.arange(8)
    before = x.clone()
    batch = options.batch(x, y, generator())
    n = 16 if options.name == "dual_cutout" else 8
    assert batch.images.shape == (n, 3, 24, 20)
    assert batch.labels.shape == batch.weights.shape
    assert batch.labels.shape[1] == n
    assert (batch.images.dtype, batch.labels.dtype, batch.weights.dtype) == (x.dtype, y.dtype, torch.float32)
    assert (batch.weights >= 0).all()
    torch.testing.assert_close(batch.weights.sum(0), torch.ones(n))
    assert batch.num_originals == 8
    assert torch.equal(x, before)


def test_the_generator_alone_decides(options):
    x, y = torch.randn(8, 3, 24, 20), torch.arange(8)
    torch.manual_seed(1)
    first = options.batch(x, y, generator())
    torch.manual_seed(2)
    again, other = options.batch(x, y, generator()), options.batch(x, y, generator(1))
    for part in ("images", "labels", "weights"):
        assert torch.equal(getattr(again, part), getattr(first, part))
    assert not torch.equal(other.images, first.images)


@pytest.mark.parametrize("n", [1, 2])
def test_batches_may_be_small(options, n):
    assert options.batch(torch.randn(n, 1, 1, 1), torch.arange(n), generator()).num_originals == n


ON_DEVICE = [n for n in augmentations.names() if not issubclass(augmentations.get(n), FileAugmentation)]
"""All but what works on files, in the decoding processes."""


class WatchSynchronisation(TorchDispatchMode):
    """Refuses whatever would make the host wait to learn a tensor's values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal"}, name
        if name in {"index", "index_put", "index_put_"}:
            assert not any(index is not None and index.dtype == torch.bool for index in args[1])
        return func(*args, **(kwargs or {}))


def ready(name: str, device: str) -> AugmentationOptions:
    """Return an augmentation as the pipeline has it when an epoch begins."""
    options = any_config.augmentation(name)
    if not isinstance(options, ImageAugmentation):
        return options
    spec = dataclasses.replace(datasets.get("cifar10")().spec, image_size=24)
    return options.prepared(spec, torch.device(device), epoch=0, epochs=1, seed=0)


def pixels_or_images(name: str, device: str) -> torch.Tensor:
    x = torch.randn(8, 3, 24, 24, device=device)
    return x.to(torch.uint8) if augmentations.get(name).stage in PIXEL_STAGES else x


@pytest.mark.parametrize("name", ON_DEVICE)
def test_nothing_waits_for_the_device(name, monkeypatch):
    monkeypatch.setattr(operations, "may_look", lambda device: False)
    x, y, logits = pixels_or_images(name, "cpu"), torch.arange(8), torch.randn(8, 10)
    options, source = ready(name, "cpu"), generator()
    with WatchSynchronisation():
        if isinstance(options, ImageAugmentation):
            options.apply(x, options.draw((8, 3, 24, 24), source))
        else:
            batch = options.batch(x, y, source)
            logits = logits.repeat(len(batch.images) // 8, 1)
            training_loss(logits, batch, 0.1)
            wrong(logits, batch)


def test_the_watch_sees_a_wait():
    x = torch.randn(8)
    for wait in (lambda: x[x > 0], lambda: x.sum().item(), lambda: bool(x.sum() > 0)):
        with pytest.raises(AssertionError), WatchSynchronisation():
            wait()


@pytest.mark.gpu
@pytest.mark.parametrize("name", ON_DEVICE)
def test_gpu_nothing_waits_for_the_device(name):
    x, y = pixels_or_images(name, "cuda"), torch.arange(8, device="cuda")
    logits, source = torch.randn(8, 10, device="cuda"), torch.Generator("cuda").manual_seed(0)
    options = ready(name, "cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        if isinstance(options, ImageAugmentation):
            options.apply(x, options.draw((8, 3, 24, 24), source))
        else:
            batch = options.batch(x, y, source)
            logits = logits.repeat(len(batch.images) // 8, 1)
            training_loss(logits, batch, 0.1)
            wrong(logits, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# --- draws -------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.2, 0.3, 0.5, 1, 2.5, 40])
def test_symmetric_beta_is_one(alpha):
    found = symmetric_beta(alpha, (50_000,), generator())
    assert found.dtype == torch.float64
    assert stats.kstest(found.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 0.001


@given(alpha=st.floats(1e-6, 1e6), seed=st.integers(0, 2**32))
def test_symmetric_beta_stays_in_range_for_any_alpha(alpha, seed):
    found = symmetric_beta(alpha, (100,), generator(seed))
    assert ((found >= 0) & (found <= 1)).all()


def test_symmetric_beta_at_the_ends_of_alpha():
    few = symmetric_beta(1e-9, (1000,), generator())
    assert torch.minimum(few, 1 - few).max() < 1e-15
    assert abs(few.mean() - 0.5) < 3.3 * (0.25 / 1000) ** 0.5
    assert (symmetric_beta(1e12, (1000,), generator()) - 0.5).abs().max() < 1e-4


def test_integers_below_are_uniform():
    limits = torch.tensor([1, 3, 33]).repeat(30_000, 1)
    found = integers_below(limits, generator())
    for column, limit in zip(found.T, (1, 3, 33), strict=True):
        counts = Counter(column.tolist())
        assert set(counts) == set(range(limit))
        assert limit == 1 or stats.chisquare(list(counts.values())).pvalue > 0.001


# --- mixup -------------------------------------------------------------------------------------


def torchvision_mixed(kind: type[v2.Transform], x: torch.Tensor, y: torch.Tensor, **params: Any) -> Any:
    """Return images and targets as torchvision mixes them, whose partners are `roll(1)`."""
    transform = kind(num_classes=10)
    params = {"labels": y, "batch_size": len(y), **params}
    return transform.transform(x, params), transform.transform(y, params)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.7, 1.0])
def test_mixup_as_torchvision_does_it(share):
    x, y = torch.randn(6, 3, 5, 4), torch.tensor([3, 1, 4, 1, 5, 9])
    batch = mixup(x, y, torch.arange(6).roll(1), torch.tensor(share))
    images, labels = torchvision_mixed(v2.MixUp, x, y, lam=share)
    torch.testing.assert_close(batch.images, images)
    torch.testing.assert_close(targets(batch, 10), labels)


def test_mixup_at_the_ends_of_its_range():
    x, y, partners = torch.randn(4, 3, 5, 5), torch.arange(4), torch.tensor([2, 0, 3, 1])
    assert torch.equal(mixup(x, y, partners, torch.tensor(1.0)).images, x)
    assert torch.equal(mixup(x, y, partners, torch.tensor(0.0)).images, x[partners])


def test_mixup_draws_one_beta_and_an_even_permutation():
    source, mix = generator(), Mixup(alpha=0.5)
    shares, orders = [], Counter()
    for _ in range(3000):
        batch = mix.batch(torch.zeros(3, 1, 1, 1), torch.arange(3), source)
        share, rest = batch.weights.unbind()
        assert share.unique().numel() == 1
        assert torch.equal(rest, 1 - share)
        assert torch.equal(batch.labels[0], torch.arange(3))
        shares.append(share[0].item())
        orders[tuple(batch.labels[1].tolist())] += 1
    assert stats.kstest(shares, stats.beta(0.5, 0.5).cdf).pvalue > 0.001
    assert set(orders) == set(itertools.permutations(range(3)))
    assert stats.chisquare(list(orders.values())).pvalue > 0.001


# --- CutMix ------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [(0, 0, 5, 4), (1, 2, 4, 4), (2, 1, 2, 3), (0, 0, 0, 0)])
def test_cutmix_as_torchvision_does_it(box):
    top, left, bottom, right = box
    x, y = torch.randn(6, 3, 5, 4), torch.tensor([3, 1, 4, 1, 5, 9])
    share = 1 - (bottom - top) * (right - left) / 20
    batch = cutmix(x, y, torch.arange(6).roll(1), torch.tensor(box))
    images, labels = torchvision_mixed(
        v2.CutMix, x, y, box=(left, top, right, bottom), lam_adjusted=share, lam=0.5
    )
    assert torch.equal(batch.images, images)
    torch.testing.assert_close(targets(batch, 10), labels)


@given(share=st.floats(0, 1), height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_cutmix_boxes_lie_inside_and_are_no_larger_than_lambda_says(share, height, width, seed):
    drawn = draw_box(torch.tensor(share, dtype=torch.float64), height, width, generator(seed))
    top, left, bottom, right = drawn.tolist()
    assert 0 <= top <= bottom <= height
    assert 0 <= left <= right <= width
    side = math.sqrt(1 - share)
    for length, extent in ((bottom - top, height), (right - left, width)):
        reach = int(side * extent / 2)
        assert reach <= length <= 2 * reach  # the border takes at most half


def test_cutmix_centres_are_uniform_and_sides_follow_lambda():
    source, share = generator(), torch.tensor(0.75, dtype=torch.float64)
    boxes = Counter(tuple(draw_box(share, 8, 8, source).tolist()) for _ in range(20_000))
    reach = 2  # half of sqrt(1 - 0.75) x 8
    expected = {
        (max(y - reach, 0), max(x - reach, 0), min(y + reach, 8), min(x + reach, 8))
        for y in range(8)
        for x in range(8)
    }
    assert set(boxes) == expected
    assert stats.chisquare(list(boxes.values())).pvalue > 0.001


@pytest.mark.parametrize("correct", [True, False])
def test_cutmix_labels_mix_by_area_or_by_lambda(correct):
    source, mix = generator(), CutMix(correct_lambda=correct)
    x, y = torch.zeros(2, 1, 32, 32), torch.arange(2)
    x[1] = 1
    shares, off = [], 0
    for _ in range(2000):
        batch = mix.batch(x, y, source)
        share, swapped = batch.weights[0, 0].item(), batch.labels[1, 0] == 1
        shares.append(share)
        if swapped:
            off += abs(1 - batch.images[0].mean().item() - share) > 1e-6
    assert (off == 0) == correct
    by_lambda = stats.kstest(shares, stats.uniform.cdf).pvalue  # Beta(1, 1)
    assert by_lambda < 1e-6 if correct else by_lambda > 0.001


# --- RICAP -------------------------------------------------------------------------------------


def ricap_by_hand(x: np.ndarray, partners: Any, meet: Any, tops: Any, lefts: Any) -> np.ndarray:
    """Crop and concatenate, as the authors' code does."""
    height, width = x.shape[2:]
    h, w = meet
    sizes = [(h, w), (h, width - w), (height - h, w), (height - h, width - w)]
    parts = [
        x[partner][:, :, top : top + rows, left : left + columns]
        for partner, top, left, (rows, columns) in zip(partners, tops, lefts, sizes, strict=True)
    ]
    upper, lower = (np.concatenate(pair, axis=3) for pair in (parts[:2], parts[2:]))
    return np.concatenate([upper, lower], axis=2)


@given(data=st.data(), height=st.integers(1, 7), width=st.integers(1, 7), n=st.integers(1, 4))
def test_ricap_by_hand(data, height, width, n):
    h, w = data.draw(st.integers(0, height)), data.draw(st.integers(0, width))
    sizes = [(h, w), (h, width - w), (height - h, w), (height - h, width - w)]
    tops = [data.draw(st.integers(0, height - rows)) for rows, _ in sizes]
    lefts = [data.draw(st.integers(0, width - columns)) for _, columns in sizes]
    partners = [data.draw(st.permutations(range(n))) for _ in range(4)]
    layout = data.draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))
    x, y = numbered(n, height, width), torch.arange(n)
    batch = ricap(
        x.contiguous(memory_format=layout), y, *(torch.tensor(a) for a in (partners, [h, w], tops, lefts))
    )
    expected = ricap_by_hand(x.numpy(), partners, (h, w), tops, lefts)
    assert np.array_equal(batch.images.numpy(), expected)
    assert torch.equal(batch.labels, torch.tensor(partners))
    areas = torch.tensor([rows * columns / (height * width) for rows, columns in sizes])
    torch.testing.assert_close(batch.weights, areas[:, None].expand(4, n))


def test_ricap_tiny():
    """Two 2 x 2 images of one channel, meeting in the middle: all four parts are one pixel."""
    x = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]).view(2, 1, 2, 2)
    partners = torch.tensor([[0, 1], [1, 0], [0, 1], [1, 0]])
    meet, tops, lefts = torch.tensor([1, 1]), torch.tensor([0, 1, 1, 0]), torch.tensor([1, 0, 1, 0])
    batch = ricap(x, torch.tensor([0, 2]), partners, meet, tops, lefts)
    assert batch.images.flatten(1).tolist() == [[2, 7, 4, 5], [6, 3, 8, 1]]
    assert targets(batch, 3).tolist() == [[0.5, 0, 0.5], [0.5, 0, 0.5]]


def test_ricap_boundaries_follow_beta_and_crops_are_uniform(monkeypatch):
    drawn: list[tuple[torch.Tensor, ...]] = []
    monkeypatch.setattr("trainer.augmentations.ricap.ricap", lambda *given: drawn.append(given[2:]))
    source, mix, side = generator(), RICAP(beta=0.3), 64
    x = torch.zeros(2, 1, side, side)
    for _ in range(4000):
        mix.batch(x, torch.arange(2), source)
    partners, meet, tops, lefts = (torch.stack(part) for part in zip(*drawn, strict=True))
    law = stats.beta(0.3, 0.3).cdf((np.arange(side + 2) - 0.5) / side)  # rounded to whole pixels
    for axis in (0, 1):
        counts = np.bincount(meet[:, axis], minlength=side + 1)
        expected = 4000 * np.diff(law)
        assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 0.001
    assert abs(np.corrcoef(meet.T)[0, 1]) < 0.06
    heights, widths = (
        torch.stack(sizes) for sizes in zip(*(part_sizes(m, side, side) for m in meet), strict=True)
    )
    for first, length in ((tops, heights), (lefts, widths)):
        assert (first >= 0).all()
        assert (first + length <= side).all()
        room = (side - length).float()
        place = ((first + 0.5) / (room + 1))[room > 32]
        assert abs(place.mean().item() - 0.5) < 3.3 * (1 / 12 / len(place)) ** 0.5
    assert abs((partners[:, :, 0] == 0).float().mean().item() - 0.5) < 3.3 * (0.25 / 16_000) ** 0.5


# --- Dual-Cutout -------------------------------------------------------------------------------


def test_dual_cutout_cuts_each_image_twice():
    x, y = numbered(300, 12, 12) + 1, torch.arange(300)
    batch = DualCutout(size=4, alpha=0.25).batch(x, y, generator())
    assert batch.agreement == 0.25
    first, second = batch.images[0::2], batch.images[1::2]
    for copy, labels in ((first, batch.labels[0, 0::2]), (second, batch.labels[0, 1::2])):
        assert torch.equal(labels, y)
        cut = copy == 0
        assert torch.equal(copy[~cut], x[~cut])
        assert cut[:, 0].flatten(1).sum(1).min() == 4  # in a corner, a quarter of the square
        assert cut[:, 0].flatten(1).sum(1).max() == 16
    same = (first == second).flatten(1).all(1).sum().item()
    assert same < 20  # each pair by chance 1 in 144


def test_dual_cutout_of_size_0_shows_the_image_itself_twice():
    x, y = torch.randn(3, 2, 4, 4), torch.arange(3)
    batch = DualCutout(size=0).batch(x, y, generator())
    assert torch.equal(batch.images, x[[0, 0, 1, 1, 2, 2]])
    assert batch.labels.tolist() == [[0, 0, 1, 1, 2, 2]]


# --- whole trainings ---------------------------------------------------------------------------

SMALL: dict[str, tuple[Any, ...]] = {
    "cutout": (Cutout(size=3),),
    "random_erasing": (RandomErasing(),),
    "mixup": (Mixup(),),
    "cutmix": (CutMix(),),
    "ricap": (RICAP(),),
    "dual_cutout": (DualCutout(size=3),),
    "brightness": (any_config.augmentation("brightness"),),
    "contrast": (any_config.augmentation("contrast"),),
    "colour_jitter": (any_config.augmentation("colour_jitter"),),
    "pca_lighting": (any_config.augmentation("pca_lighting"),),
    "policy": (any_config.augmentation("policy"), RandomCrop(padding=1)),
    "randaugment": (any_config.augmentation("randaugment"),),
    "trivial_augment": (any_config.augmentation("trivial_augment"),),
    "auto_augment": (any_config.augmentation("auto_augment"),),
    "many": (RandomCrop(padding=1), HorizontalFlip(), Cutout(size=2), RandomErasing(), RICAP(beta=1)),
}


def test_each_augmentation_is_trained_with_below():
    plain = {"random_crop", "horizontal_flip"}  # these are in the tests of the loop
    assert set(ON_DEVICE) <= set(SMALL) | plain


@pytest.mark.parametrize("step", [1, 3, 8])
@pytest.mark.parametrize("name", SMALL)
def test_interrupted_a_trial_ends_the_same(name, step, cache_dir, tmp_path):
    images = tiny.ColourImages()
    config = tiny.config(augmentation=SMALL[name], label_smoothing=0.1, dataset=images)
    runtime = Runtime(cache_dir=cache_dir, checkpoint=tmp_path / "trial.ckpt", checkpoint_seconds=math.inf)
    whole = train(config, seed=0, runtime=dataclasses.replace(runtime, checkpoint=None))
    asked = itertools.count()
    with pytest.raises(Interrupted):
        train(
            config,
            seed=0,
            runtime=dataclasses.replace(runtime, should_stop=lambda: next(asked) >= step),
        )
    resumed = train(config, seed=0, runtime=runtime)
    assert resumed.resumes == 1
    assert figures(resumed) == figures(whole)


@pytest.mark.parametrize("name", ["cutout", "random_erasing", "mixup", "cutmix", "ricap", "dual_cutout"])
def test_digits_are_learnt_with_each_augmentation(name, cache_dir):
    config = TrainConfig(model=TinyNet(), epochs=5, batch_size=103, init="fan_in", augmentation=SMALL[name])
    result = train(config, seed=0, runtime=Runtime(cache_dir=cache_dir))
    assert result.status == "done"
    assert result.epochs[-1].test_error < 0.12
    assert all(0 < epoch.train_error < 1 for epoch in result.epochs)


@pytest.mark.parametrize("name", ["cutout", "random_erasing", "dual_cutout"])
def test_noise_is_learnt_by_heart_where_labels_stay_whole(name, cache_dir):
    config = tiny.config(
        epochs=150,
        batch_size=26,
        lr=0.02,
        schedule=Constant(),
        weight_decay=0.0,
        augmentation=SMALL[name],
    )
    result = train(config, seed=0, runtime=Runtime(cache_dir=cache_dir))
    assert np.mean([epoch.train_error for epoch in result.epochs[-20:]]) < 0.05


def test_dual_cutout_counts_each_image_once(cache_dir):
    """Twice the same image: the errors are those of training without, up to batch statistics."""
    config = tiny.config(epochs=1, batch_size=26, lr=1e-30, augmentation=(DualCutout(size=0, alpha=0.0),))
    runtime = Runtime(cache_dir=cache_dir)
    once = train(tiny.config(epochs=1, batch_size=26, lr=1e-30), seed=0, runtime=runtime).epochs[0]
    twice = train(config, seed=0, runtime=runtime).epochs[0]
    assert twice.train_error == pytest.approx(once.train_error)
    assert twice.train_loss == pytest.approx(once.train_loss, rel=1e-5)


def test_what_a_batch_keeps_when_it_is_split():
    """Copies stand side by side, so that halves of a batch have whole pairs."""
    x, y = torch.randn(4, 2, 4, 4), torch.arange(4)
    batch = DualCutout(size=2).batch(x, y, generator())
    logits = torch.randn(8, 5)
    halves = [
        Batch(batch.images[part], batch.labels[:, part], batch.weights[:, part], batch.agreement)
        for part in (slice(4), slice(4, None))
    ]
    losses = [training_loss(logits[i * 4 :][:4], half, 0.1) for i, half in enumerate(halves)]
    torch.testing.assert_close(torch.stack(losses).mean(), training_loss(logits, batch, 0.1))
    assert [half.num_originals for half in halves] == [2, 2]
