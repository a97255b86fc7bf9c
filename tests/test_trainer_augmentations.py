"""Augmentations of single images, their combination, and the pipeline: draws, pixels, normalisation."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from typing import Any, ClassVar

import any_config
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trainer import ConfigError, TrainConfig
from trainer.augmentations import (
    PIXEL_STAGES,
    STAGES,
    BatchAugmentation,
    FileAugmentation,
    ImageAugmentation,
    Stage,
    augmentations,
)
from trainer.augmentations._draws import hashed
from trainer.augmentations.brightness import Brightness
from trainer.augmentations.contrast import Contrast
from trainer.augmentations.cutout import Cutout
from trainer.augmentations.horizontal_flip import HorizontalFlip
from trainer.augmentations.mixup import Mixup
from trainer.augmentations.random_crop import RandomCrop
from trainer.augmentations.random_erasing import RandomErasing
from trainer.data.pipeline import Pipeline, Split
from trainer.datasets import DataSpec, datasets
from trainer.schema import defaults

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 8, channels: int = 3, size: int = 6, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    """Return (n, channels, size, size) pixels, none of them zero."""
    return torch.randint(1, 256, (n, channels, size, size), generator=generator(9)).to(dtype)


def shape_of(x: torch.Tensor) -> tuple[int, int, int, int]:
    n, channels, height, width = x.shape
    return n, channels, height, width


def augment(options: ImageAugmentation, x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return options.apply(x, options.draw(shape_of(x), generator(seed)))


# --- every registered augmentation of single images ----------------------------------------------

OF_IMAGES = [name for name in augmentations.names() if issubclass(augmentations.get(name), ImageAugmentation)]


@pytest.fixture(params=OF_IMAGES)
def options(request: pytest.FixtureRequest) -> ImageAugmentation:
    """Return each augmentation of single images with its defaults."""
    return any_config.augmentation(request.param)


def kept_dtypes(options: ImageAugmentation) -> list[torch.dtype]:
    """Return what an augmentation may be handed: pixels before normalisation, or images after it."""
    if options.stage == "policy":
        return [torch.uint8]
    return [torch.uint8, torch.float32] if options.stage in PIXEL_STAGES else [torch.float32]


def test_each_augmentation_is_of_files_or_of_images_or_of_batches():
    for name in augmentations.names():
        kind = augmentations.get(name)
        kinds = (FileAugmentation, ImageAugmentation, BatchAugmentation)
        assert [issubclass(kind, one) for one in kinds].count(True) == 1
        assert issubclass(kind, FileAugmentation) == (kind.stage == "decode")
        assert issubclass(kind, BatchAugmentation) == (kind.stage == "batch")


def test_shape_and_dtype_are_kept_and_the_input_is_left_alone(options):
    assert options.stage in STAGES
    for dtype in kept_dtypes(options):
        x = images(dtype=dtype)
        before = x.clone()
        y = augment(options, x)
        if getattr(options, "masked", False):
            y, mask = y[:, :3], y[:, 3:]
            assert set(mask.unique().tolist()) <= {0, 1}
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
        assert torch.equal(x, before)


def test_the_generator_alone_decides(options):
    x = images(64, size=24, dtype=kept_dtypes(options)[-1])
    torch.manual_seed(1)
    first = augment(options, x)
    torch.manual_seed(2)
    assert torch.equal(augment(options, x), first)
    assert not torch.equal(augment(options, x, seed=1), first)


@pytest.mark.parametrize("cut", [0, 1, 5, 16])
def test_a_batch_may_be_split_anywhere(options, cut):
    x = images(16, size=24, dtype=kept_dtypes(options)[-1])
    draws = options.draw(shape_of(x), generator())
    assert len(draws) == len(x)
    parts = [options.apply(x[part], draws[part]) for part in (slice(cut), slice(cut, None))]
    assert torch.equal(torch.cat(parts), options.apply(x, draws))


# --- random crop -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("padding", "limit"),
    [(1, 26.1), (2, 51.2), (4, 124.8)],  # of chi-square with (2p + 1)^2 - 1 degrees of freedom, p = 0.001
)
def test_crop_offsets_are_uniform(padding, limit):
    n = 40_000
    draws = RandomCrop(padding=padding).draw((n, 1, 8, 8), generator())
    counts = Counter(map(tuple, draws.tolist()))
    windows = (2 * padding + 1) ** 2
    assert len(counts) == windows
    assert {offset for window in counts for offset in window} == set(range(2 * padding + 1))
    assert sum((count - n / windows) ** 2 / (n / windows) for count in counts.values()) < limit


@given(
    padding=st.integers(0, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    dtype=st.sampled_from([torch.uint8, torch.float32]),
    seed=st.integers(0, 2**32),
)
def test_crop_is_a_window_of_the_zero_padded_image(padding, height, width, dtype, seed):
    x = torch.randint(0, 256, (5, 2, height, width), generator=generator(seed)).to(dtype)
    crop = RandomCrop(padding=padding)
    draws = crop.draw(shape_of(x), generator(seed))
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    expected = [
        padded[i, :, top : top + height, left : left + width] for i, (top, left) in enumerate(draws.tolist())
    ]
    assert np.array_equal(crop.apply(x, draws).numpy(), np.stack(expected))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("padding", [0, 1, 2, 4])
@pytest.mark.parametrize("size", [(5, 5), (6, 9)])
def test_every_reflected_crop_is_a_window_of_numpys_padding(size, padding, dtype):
    height, width = size
    offsets = list(itertools.product(range(2 * padding + 1), repeat=2))
    x = torch.randint(0, 256, (len(offsets), 3, height, width), generator=generator()).to(dtype)
    crop = RandomCrop(padding=padding, padding_mode="reflect")
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)), mode="reflect")
    expected = [
        padded[i, :, top : top + height, left : left + width] for i, (top, left) in enumerate(offsets)
    ]
    for layout in (torch.contiguous_format, torch.channels_last):
        found = crop.apply(x.to(memory_format=layout), torch.tensor(offsets))
        assert found.dtype == dtype
        assert np.array_equal(found.numpy(), np.stack(expected))


def test_the_padding_mode_changes_no_offsets():
    crops = [RandomCrop(padding=2, padding_mode=mode) for mode in ("zero", "reflect")]
    zero, reflect = (crop.draw((50, 1, 8, 8), generator()) for crop in crops)
    assert torch.equal(zero, reflect)


@pytest.mark.parametrize("mode", ["zero", "reflect"])
def test_crop_without_padding_is_the_identity(mode):
    x = images()
    assert torch.equal(augment(RandomCrop(padding=0, padding_mode=mode), x), x)


# --- horizontal flip ---------------------------------------------------------------------------


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_flip_rate(probability):
    n = 40_000
    flipped = HorizontalFlip(probability=probability).draw((n, 1, 1, 1), generator()).sum().item()
    assert abs(flipped - n * probability) < 3.3 * (n * probability * (1 - probability)) ** 0.5


def test_flip_mirrors_columns_of_the_drawn_images():
    x = images(4)
    y = HorizontalFlip().apply(x, torch.tensor([True, False, False, True]))
    assert np.array_equal(y[[0, 3]].numpy(), x[[0, 3]].numpy()[..., ::-1])
    assert torch.equal(y[1:3], x[1:3])


def test_flip_at_the_ends_of_its_range():
    x = images(64)
    assert torch.equal(augment(HorizontalFlip(probability=0), x), x)
    assert torch.equal(augment(HorizontalFlip(probability=1), x), x.flip(3))


def splitmix64(state: int, number: int) -> list[int]:
    """Return the first outputs as Vigna's splitmix64.c has them, in whole numbers."""
    found = []
    for _ in range(number):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        found.append(z ^ z >> 31)
    return found


@given(seed=st.sampled_from([0, 1, 1234567, 2**63 - 1]) | st.integers(0, 2**63 - 1))
def test_hashed_is_splitmix64(seed):
    found = hashed(torch.arange(20), seed)
    assert [number % 2**64 for number in found.tolist()] == splitmix64(seed, 20)


def test_splitmix64_by_hand_is_the_published_one():
    assert splitmix64(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def alternated(x: torch.Tensor, places: torch.Tensor, epoch: int, seed: int = 0) -> torch.Tensor:
    """Return the images `x` as the pipeline gives them, with alternating flips only."""
    pipeline = Pipeline(SPEC, (HorizontalFlip(alternating=True),), CPU, seed)
    return pipeline.augment(x, generator(), places, epoch)


def test_alternating_flip_mirrors_each_image_of_the_epoch_before():
    x, places = images(64, channels=2), torch.arange(64)
    epochs = [alternated(x, places, epoch) for epoch in range(5)]
    for before, after in itertools.pairwise(epochs):
        assert torch.equal(before.flip(3), after)
    plain = Pipeline(SPEC, (), CPU).normalise(x)
    mirrored = (epochs[0] != plain).flatten(1).any(1)
    assert torch.equal(epochs[0], torch.where(mirrored[:, None, None, None], plain.flip(3), plain))
    assert 0 < mirrored.sum() < 64


def test_alternating_flip_mirrors_half_of_the_images_in_each_epoch():
    n = 50_000
    flip, places = HorizontalFlip(alternating=True), torch.arange(n)
    first, second, third = (flip.planned(places, epoch, seed=3) for epoch in range(3))
    assert abs(first.sum().item() - n / 2) < 3.3 * (n / 4) ** 0.5
    assert torch.equal(first, ~second)
    assert torch.equal(first, third)
    same = (first == flip.planned(places, 0, seed=4)).sum().item()  # another seed, another half
    assert abs(same - n / 2) < 3.3 * (n / 4) ** 0.5


def test_alternating_flip_depends_on_seed_place_and_epoch_alone():
    x, places = images(16, channels=2), torch.tensor([5, 40_000, 3, 1, *range(100, 112)])
    whole = alternated(x, places, epoch=2)
    order = torch.randperm(16, generator=generator(1))
    parts = [alternated(x[part], places[part], epoch=2) for part in order.split(5)]
    assert torch.equal(torch.cat(parts), whole[order])


def test_alternating_flip_draws_nothing():
    pipeline, source = Pipeline(SPEC, (HorizontalFlip(alternating=True),), CPU), generator()
    pipeline.augment(images(channels=2), source, PLACES, 0)
    assert torch.equal(source.get_state(), generator().get_state())


# --- brightness and contrast -------------------------------------------------------------------


def test_brightness_and_contrast_by_hand():
    x = torch.tensor([[0.5, -2.0], [1.0, 0.0]]).view(2, 1, 1, 2)
    draws = torch.tensor([0.25, -0.5])
    brighter = Brightness().apply(x, draws)
    assert brighter.flatten(1).tolist() == [[0.75, -1.75], [0.5, -0.5]]
    assert Contrast().apply(x, draws).flatten(1).tolist() == [[0.625, -2.5], [0.5, 0.0]]


@pytest.mark.parametrize("kind", [Brightness, Contrast])
def test_brightness_and_contrast_are_uniform_and_one_number_an_image(kind):
    draws = kind(amount=0.3).draw((20_000, 3, 2, 2), generator())
    assert draws.shape == (20_000,)
    assert stats.kstest(draws.double().numpy(), stats.uniform(-0.3, 0.6).cdf).pvalue > 0.001


@pytest.mark.parametrize("kind", [Brightness, Contrast])
def test_brightness_and_contrast_of_no_amount_change_nothing(kind):
    x = images(dtype=torch.float32)
    assert torch.equal(augment(kind(amount=0), x), x)


# --- cutout ------------------------------------------------------------------------------------


def cut_by_hand(x: torch.Tensor, boxes: torch.Tensor, fill: list[float]) -> np.ndarray:
    """Fill boxes image by image, cutting them off at the border."""
    y = x.numpy().copy()
    for i, (top, left, bottom, right) in enumerate(boxes.int().tolist()):
        y[i, :, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = fill[i]
    return y


@given(
    size=st.integers(0, 12),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    dtype=st.sampled_from([torch.uint8, torch.float32]),
    seed=st.integers(0, 2**32),
)
def test_cutout_blanks_the_drawn_square(size, height, width, dtype, seed):
    x = torch.randint(1, 256, (5, 2, height, width), generator=generator(seed)).to(dtype)
    cutout = Cutout(size=size)
    draws = cutout.draw(shape_of(x), generator(seed))
    y = cutout.apply(x, draws)
    assert y.dtype == dtype
    assert np.array_equal(y.numpy(), cut_by_hand(x, draws, [0] * 5))


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_cutout_centres_are_uniform_over_the_image(size):
    n, height, width = 40_000, 6, 8
    draws = Cutout(size=size).draw((n, 1, height, width), generator())
    centres = draws[:, :2] + size // 2
    counts = Counter(map(tuple, centres.tolist()))
    assert set(counts) == {(y, x) for y in range(height) for x in range(width)}
    assert stats.chisquare(list(counts.values())).pvalue > 0.001
    assert torch.equal(draws[:, 2:] - draws[:, :2], torch.full((n, 2), size))


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_cutout_inside_is_uniform_over_where_it_fits(size):
    n, height, width = 40_000, 6, 8
    draws = Cutout(size=size, inside=True).draw((n, 1, height, width), generator())
    counts = Counter(map(tuple, draws[:, :2].tolist()))
    assert set(counts) == {(y, x) for y in range(height - size + 1) for x in range(width - size + 1)}
    assert stats.chisquare(list(counts.values())).pvalue > 0.001


@pytest.mark.parametrize("size", [6, 16])
def test_cutout_area_is_what_the_border_leaves_of_the_square(size):
    """The exact mean over all centres, which per axis are uniform."""
    side = 32
    blank = augment(Cutout(size=size), torch.ones(20_000, 1, side, side)) == 0
    per_axis = [
        min(c - size // 2 + size, side) - max(c - size // 2, 0) for c in range(side)
    ]  # pixels covered, by centre
    second = np.mean(np.square(per_axis)) ** 2
    mean = np.mean(per_axis) ** 2
    found = blank.sum((1, 2, 3)).float().mean().item()
    assert abs(found - mean) < 3.3 * ((second - mean**2) / 20_000) ** 0.5
    corner = ((size // 2 + 1) / side) ** 2  # by centres 0..size // 2 on each axis
    assert (
        abs(blank[:, :, 0, 0].sum().item() - 20_000 * corner) < 3.3 * (20_000 * corner * (1 - corner)) ** 0.5
    )


def test_cutout_at_the_ends_of_its_range():
    x = images(64)
    assert torch.equal(augment(Cutout(size=0), x), x)
    assert torch.equal(augment(Cutout(probability=0), x), x)
    assert not augment(Cutout(size=12), x).any()  # larger than twice the image
    assert not augment(Cutout(size=6, inside=True), x).any()


def test_cutout_rate():
    cut = augment(Cutout(size=2, probability=0.3), torch.ones(40_000, 1, 4, 4)) == 0
    assert abs(cut.flatten(1).any(1).sum().item() - 12_000) < 3.3 * (40_000 * 0.3 * 0.7) ** 0.5


# --- random erasing ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(28, 28), (7, 20)])
def test_erasing_fills_the_drawn_rectangle_with_one_value(size):
    x = torch.randn(50, 2, *size, generator=generator())
    erasing = RandomErasing()
    draws = erasing.draw(shape_of(x), generator(1))
    expected = cut_by_hand(x, draws[:, :4], draws[:, 4].tolist())
    assert np.array_equal(erasing.apply(x, draws).numpy(), expected)
    assert len(draws[:, 4].unique()) == 50


def drawn(erasing: RandomErasing, n: int, height: int, width: int) -> tuple[torch.Tensor, ...]:
    """Return tops, lefts, heights, widths and fills of `n` draws."""
    top, left, bottom, right, fill = erasing.draw((n, 3, height, width), generator()).unbind(1)
    return top, left, bottom - top, right - left, fill


def test_erased_rectangles_lie_inside_and_are_lower_and_narrower_than_the_image():
    top, left, h, w, fill = drawn(RandomErasing(max_area=1), 20_000, 9, 14)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + h <= 9).all()
    assert (left + w <= 14).all()
    assert h.max() == 8
    assert w.max() == 13
    assert all(torch.equal(part, part.round()) for part in (top, left, h, w))
    assert ((fill >= 0) & (fill < 1)).all()


def test_erased_areas_and_aspects_follow_their_law():
    """On an image so large that neither rounding nor the border matters; every draw fits."""
    side = 100_000
    erasing = RandomErasing(probability=1, min_area=0.02, max_area=0.2, min_aspect=0.5)
    top, left, h, w, fill = drawn(erasing, 20_000, side, side)
    area, aspect = (h * w / side**2).double().numpy(), (h / w).double().numpy()
    assert stats.kstest(area, stats.uniform(0.02, 0.18).cdf).pvalue > 0.001
    assert stats.kstest(aspect, stats.uniform(0.5, 1.5).cdf).pvalue > 0.001
    assert stats.kstest(fill.double().numpy(), stats.uniform.cdf).pvalue > 0.001
    for place, length in ((top, h), (left, w)):
        assert stats.kstest((place / (side - length)).double().numpy(), stats.uniform.cdf).pvalue > 0.001


def test_places_of_an_erased_rectangle_are_uniform():
    erasing = RandomErasing(probability=1, min_area=4 / 24, max_area=4 / 24, min_aspect=1)  # 2 x 2 of 4 x 6
    top, left, h, w, _ = drawn(erasing, 40_000, 4, 6)
    assert (h == 2).all()
    assert (w == 2).all()
    counts = Counter(zip(top.tolist(), left.tolist(), strict=True))
    assert len(counts) == 3 * 5
    assert stats.chisquare(list(counts.values())).pvalue > 0.001


def test_the_first_rectangle_that_fits_counts():
    """Squares of 0.25 to 1 of the image's area all fit but the largest; rejected ones are drawn anew."""
    erasing = RandomErasing(probability=1, min_area=0.25, max_area=1, min_aspect=1)
    _, _, h, w, _ = drawn(erasing, 40_000, 4, 4)
    assert torch.equal(h, w)
    assert set(h.tolist()) == {2, 3}  # sides 2 to 4, less those that round to 4
    share = (2.5**2 / 16 - 0.25) / (3.5**2 / 16 - 0.25)  # of sides that round to 2
    assert abs((h == 2).sum().item() - 40_000 * share) < 3.3 * (40_000 * share * (1 - share)) ** 0.5


@pytest.mark.parametrize("probability", [0.1, 0.5, 1])
def test_erasing_rate(probability):
    _, _, h, w, _ = drawn(RandomErasing(probability=probability), 40_000, 32, 32)
    spread = (40_000 * probability * (1 - probability)) ** 0.5
    assert abs(((h > 0) & (w > 0)).sum().item() - 40_000 * probability) <= 3.3 * spread


def test_an_image_that_no_rectangle_fits_is_left_alone():
    x = images(64, dtype=torch.float32)
    assert torch.equal(augment(RandomErasing(probability=1, min_area=1, max_area=1), x), x)
    assert torch.equal(augment(RandomErasing(probability=0), x), x)
    assert torch.equal(augment(RandomErasing(probability=1, min_area=0, max_area=0), x), x)


# --- what a config may combine -----------------------------------------------------------------


def config(**augmentation: Any) -> TrainConfig:
    model = {"name": "resnet_preact", "depth": 20}
    values = {"model": model, "dataset": "cifar10", "epochs": 1, "augmentation": augmentation}
    return TrainConfig.from_dict(values)


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        ({"cutout": {"size": -1}}, "cutout.size: must be >= 0, got -1"),
        ({"cutout": {"probability": 2}}, "cutout.probability: must be in 0..1, got 2.0"),
        (
            {"cutout": {"size": 33, "inside": True}},
            "cutout.size: must be <= 32 to lie inside the image, got 33",
        ),
        (
            {"horizontal_flip": {"alternating": True, "probability": 0.4}},
            "horizontal_flip.probability: must be 0.5 with alternating, got 0.4",
        ),
        (
            {"random_crop": {"padding": 32, "padding_mode": "reflect"}},
            "random_crop.padding: must be < 32 with padding_mode: reflect, got 32",
        ),
        ({"brightness": {"amount": -1}}, "brightness.amount: must be >= 0, got -1.0"),
        ({"contrast": {"amount": 1.5}}, "contrast.amount: must be in 0..1, got 1.5"),
        ({"random_erasing": {"probability": -1}}, "random_erasing.probability: must be in 0..1, got -1.0"),
        ({"random_erasing": {"min_area": 2}}, "random_erasing.min_area: must be in 0..1, got 2.0"),
        (
            {"random_erasing": {"max_area": 0.01}},
            "random_erasing.max_area: must be in min_area..1 (0.02..1), got 0.01",
        ),
        ({"random_erasing": {"min_aspect": 0}}, "random_erasing.min_aspect: must be > 0 and <= 1, got 0.0"),
        ({"dual_cutout": {"size": -1}}, "dual_cutout.size: must be >= 0, got -1"),
        ({"dual_cutout": {"alpha": -1}}, "dual_cutout.alpha: must be >= 0, got -1.0"),
        ({"mixup": {"alpha": 0}}, "mixup.alpha: must be > 0, got 0.0"),
        ({"cutmix": {"alpha": 0}}, "cutmix.alpha: must be > 0, got 0.0"),
        ({"ricap": {"beta": 0}}, "ricap.beta: must be > 0, got 0.0"),
        ({"cutot": True}, "cutot: unknown augmentation 'cutot'. Did you mean 'cutout'?"),
        (
            {"dual_cutout": True, "cutout": True},
            "dual_cutout: cannot be combined with cutout; switch one of the two off",
        ),
        (
            {"ricap": True, "mixup": True, "cutout": True},
            "mixup: cannot be combined with ricap; switch one of the two off",
        ),
        (
            {"dual_cutout": True, "cutmix": True},
            "cutmix: cannot be combined with dual_cutout; switch one of the two off",
        ),
    ],
)
def test_what_cannot_be_augmented_is_refused(augmentation, message):
    with pytest.raises(ConfigError) as caught:
        config(**augmentation)
    assert str(caught.value) == f"augmentation.{message}"


@pytest.mark.parametrize(
    "names",
    [
        ("random_crop", "horizontal_flip", "cutout"),
        ("random_crop", "horizontal_flip", "random_erasing", "cutout", "mixup"),
        ("random_crop", "ricap"),
        ("horizontal_flip", "dual_cutout", "random_erasing"),
    ],
)
def test_what_the_published_rows_combine_is_allowed(names):
    allowed = config(**dict.fromkeys(names, True))
    assert sorted(options.name for options in allowed.augmentation) == sorted(names)


def test_an_augmentation_switched_off_excludes_nothing():
    assert [options.name for options in config(mixup=True, ricap=False).augmentation] == ["mixup"]


def test_a_cutout_larger_than_the_image_is_allowed_unless_inside():
    assert config(cutout={"size": 64}).augmentation == (Cutout(size=64),)
    assert config(cutout={"size": 32, "inside": True}).augmentation == (Cutout(size=32, inside=True),)


# --- pipeline ----------------------------------------------------------------------------------

SPEC = DataSpec(
    num_classes=2,
    channels=2,
    image_size=6,
    num_train=1,
    num_test=1,
    mean=(0.5, 0.2),
    std=(0.25, 0.4),
)
PLACES = torch.arange(8)


def test_normalise_by_hand():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 2, 1, 1)
    normalised = Pipeline(SPEC, (), CPU).normalise(pixels)
    expected = torch.tensor([[-2.0, -0.5], [-1.2, 0.0], [2.0, 2.0]])  # (pixel / 255 - mean) / std
    torch.testing.assert_close(normalised.view(3, 2), expected, atol=1e-6, rtol=1e-6)
    assert normalised.dtype == torch.float32


def test_every_batch_is_channels_last():
    pixels, labels = images(), torch.arange(8)
    spec = dataclasses.replace(SPEC, channels=3, mean=(0.5, 0.2, 0.3), std=(0.25, 0.4, 0.3))
    assert Pipeline(spec, (), CPU).normalise(pixels).is_contiguous(memory_format=torch.channels_last)
    for name in augmentations.names():
        pipeline = Pipeline(spec, (any_config.augmentation(name),), CPU)
        batch = pipeline.batch(pixels, labels, generator(), labels, epoch=0)
        assert batch.images.shape[1:] == pixels.shape[1:]
        assert batch.images.is_contiguous(memory_format=torch.channels_last), name


def test_without_augmentation_a_training_batch_is_normalised_only():
    pipeline = Pipeline(SPEC, (), CPU)
    pixels = images(channels=2)
    assert torch.equal(pipeline.augment(pixels, generator(), PLACES, 0), pipeline.normalise(pixels))


def test_crops_are_surrounded_by_pixel_zeros_not_by_mean_colour():
    pipeline = Pipeline(SPEC, (RandomCrop(padding=3),), CPU)
    white = torch.full((64, 2, 6, 6), 255, dtype=torch.uint8)
    batch = pipeline.augment(white, generator(), PLACES, 0)
    for channel, (black, full) in enumerate([(-2.0, 2.0), (-0.5, 2.0)]):
        levels = batch[:, channel].unique()
        torch.testing.assert_close(levels, torch.tensor([black, full]), atol=1e-6, rtol=1e-6)


class Probe(ImageAugmentation):
    """Writes down what it is handed. Not registered."""

    def __init__(self, name: str, seen: list[tuple[str, torch.dtype]]) -> None:
        self.name, self.seen = name, seen

    def draw(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> torch.Tensor:
        return torch.rand(shape[0], generator=generator)

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        self.seen.append((self.name, images.dtype))
        return images


class CropProbe(Probe):
    stage: ClassVar[Stage] = "crop"


class FlipProbe(Probe):
    stage: ClassVar[Stage] = "flip"


class EraseProbe(Probe):
    stage: ClassVar[Stage] = "erase"


def test_stages_run_in_their_order_around_normalisation():
    seen: list[tuple[str, torch.dtype]] = []
    probes = (EraseProbe("a", seen), FlipProbe("b", seen), CropProbe("d", seen), CropProbe("c", seen))
    Pipeline(SPEC, probes, CPU).augment(images(channels=2), generator(), PLACES, 0)
    assert seen == [("c", torch.uint8), ("d", torch.uint8), ("b", torch.uint8), ("a", torch.float32)]


def test_brightness_comes_before_contrast_and_both_before_what_is_cut():
    white = torch.full((8, 2, 6, 6), 255, dtype=torch.uint8)
    pipeline = Pipeline(SPEC, (Cutout(size=3), Contrast(amount=0.5), Brightness(amount=0.5)), CPU)
    batch = pipeline.augment(white, generator(), PLACES, 0)
    source = generator()
    brightness = Brightness(amount=0.5).draw(shape_of(white), source)
    contrast = Contrast(amount=0.5).draw(shape_of(white), source)
    for image, added, factor in zip(batch, brightness, contrast, strict=True):
        expected = torch.stack([torch.tensor(0.0), (2 + added) * (1 + factor)])  # the cut stays mean colour
        torch.testing.assert_close(image.unique(), expected)


def test_batches_are_mixed_last():
    """White images cut in half: mixing them before the cut would leave other levels."""
    white = torch.full((8, 2, 6, 6), 255, dtype=torch.uint8)
    pipeline = Pipeline(SPEC, (Mixup(), Cutout(size=3)), CPU)
    batch = pipeline.batch(white, torch.arange(8), generator(), PLACES, 0)
    share = batch.weights[0, 0]
    levels = batch.images[:, 0].unique()
    expected = torch.stack([torch.tensor(0.0), 2 * (1 - share), 2 * share, torch.tensor(2.0)]).sort().values
    torch.testing.assert_close(levels, expected)


@pytest.mark.parametrize("size", [1, 3, 7, 10, 100])
def test_batches_cover_a_split_once_in_order(size):
    split = Split(images(10), torch.arange(10))
    batches = list(split.batches(size))
    assert torch.equal(torch.cat([y for _, y in batches]), split.y)
    assert torch.equal(torch.cat([x for x, _ in batches]), split.x)
    assert all(len(x) == len(y) <= size for x, y in batches)


def required(kind: type) -> set[str]:
    """Return the options of a registered kind that have no default."""
    return {field.name for field in dataclasses.fields(kind)} - set(defaults(kind))


@pytest.mark.parametrize("name", [name for name in datasets.names() if not required(datasets.get(name))])
def test_every_published_data_set_has_one_mean_and_deviation_a_channel(name):
    spec = datasets.get(name)().spec
    assert len(spec.mean) == len(spec.std) == spec.channels
    x = torch.zeros(1, spec.channels, 2, 2, dtype=torch.uint8)
    expected = torch.tensor([-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)])
    torch.testing.assert_close(Pipeline(spec, (), CPU).normalise(x)[0, :, 0, 0], expected)
