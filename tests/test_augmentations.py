"""Augmentations and the pipeline: what is drawn, what it does to the pixels, and normalisation."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.augmentations import STAGES, AugmentationOptions, Stage, augmentations
from trainer.augmentations.horizontal_flip import HorizontalFlip
from trainer.augmentations.random_crop import RandomCrop
from trainer.datasets import DataSpec, datasets
from trainer.pipeline import Pipeline, Split
from trainer.schema import read

CPU = torch.device("cpu")
REQUIRED: dict[str, dict[str, Any]] = {}  # options of augmentations that have no defaults


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 8, channels: int = 3, size: int = 6, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    """Return (n, channels, size, size) pixels, none of them zero."""
    return torch.randint(1, 256, (n, channels, size, size), generator=generator(9)).to(dtype)


def shape_of(x: torch.Tensor) -> tuple[int, int, int, int]:
    n, channels, height, width = x.shape
    return n, channels, height, width


def augment(options: AugmentationOptions, x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return options.apply(x, options.draw(shape_of(x), generator(seed)))


# --- every registered augmentation -------------------------------------------------------------


@pytest.fixture(params=augmentations.names())
def options(request: pytest.FixtureRequest) -> AugmentationOptions:
    """Return each augmentation with its defaults."""
    return read(augmentations.get(request.param), REQUIRED.get(request.param, {}))


def kept_dtypes(options: AugmentationOptions) -> list[torch.dtype]:
    """Return what an augmentation may be handed: pixels before normalisation, or images after it."""
    return [torch.float32] if options.stage == "erase" else [torch.uint8, torch.float32]


def test_shape_and_dtype_are_kept_and_the_input_is_left_alone(options):
    assert options.stage in STAGES
    for dtype in kept_dtypes(options):
        x = images(dtype=dtype)
        before = x.clone()
        y = augment(options, x)
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
        assert torch.equal(x, before)


def test_the_generator_alone_decides(options):
    x = images(64, dtype=torch.float32)
    torch.manual_seed(1)
    first = augment(options, x)
    torch.manual_seed(2)
    assert torch.equal(augment(options, x), first)
    assert not torch.equal(augment(options, x, seed=1), first)


@pytest.mark.parametrize("cut", [0, 1, 5, 16])
def test_a_batch_may_be_split_anywhere(options, cut):
    x = images(16, dtype=torch.float32)
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


def test_crop_without_padding_is_the_identity():
    x = images()
    assert torch.equal(augment(RandomCrop(padding=0), x), x)


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


def test_normalise_by_hand():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 2, 1, 1)
    normalised = Pipeline(SPEC, (), CPU).normalise(pixels)
    expected = torch.tensor([[-2.0, -0.5], [-1.2, 0.0], [2.0, 2.0]])  # (pixel / 255 - mean) / std
    torch.testing.assert_close(normalised.view(3, 2), expected, atol=1e-6, rtol=1e-6)
    assert normalised.dtype == torch.float32


def test_every_batch_is_channels_last():
    pipeline = Pipeline(SPEC, (RandomCrop(padding=2), HorizontalFlip()), CPU)
    pixels = images(channels=2)
    for batch in (pipeline.normalise(pixels), pipeline.augment(pixels, generator())):
        assert batch.shape == pixels.shape
        assert batch.is_contiguous(memory_format=torch.channels_last)


def test_without_augmentation_a_training_batch_is_normalised_only():
    pipeline = Pipeline(SPEC, (), CPU)
    pixels = images(channels=2)
    assert torch.equal(pipeline.augment(pixels, generator()), pipeline.normalise(pixels))


def test_crops_are_surrounded_by_pixel_zeros_not_by_mean_colour():
    pipeline = Pipeline(SPEC, (RandomCrop(padding=3),), CPU)
    white = torch.full((64, 2, 6, 6), 255, dtype=torch.uint8)
    batch = pipeline.augment(white, generator())
    for channel, (black, full) in enumerate([(-2.0, 2.0), (-0.5, 2.0)]):
        levels = batch[:, channel].unique()
        torch.testing.assert_close(levels, torch.tensor([black, full]), atol=1e-6, rtol=1e-6)


class Probe(AugmentationOptions):
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
    Pipeline(SPEC, probes, CPU).augment(images(channels=2), generator())
    assert seen == [("c", torch.uint8), ("d", torch.uint8), ("b", torch.uint8), ("a", torch.float32)]


@pytest.mark.parametrize("size", [1, 3, 7, 10, 100])
def test_batches_cover_a_split_once_in_order(size):
    split = Split(images(10), torch.arange(10))
    batches = list(split.batches(size))
    assert torch.equal(torch.cat([y for _, y in batches]), split.y)
    assert torch.equal(torch.cat([x for x, _ in batches]), split.x)
    assert all(len(x) == len(y) <= size for x, y in batches)


@pytest.mark.parametrize("name", datasets.names())
def test_every_data_set_has_one_mean_and_deviation_a_channel(name):
    spec = datasets.get(name)().spec
    assert len(spec.mean) == len(spec.std) == spec.channels
    x = torch.zeros(1, spec.channels, 2, 2, dtype=torch.uint8)
    expected = torch.tensor([-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)])
    torch.testing.assert_close(Pipeline(spec, (), CPU).normalise(x)[0, :, 0, 0], expected)
