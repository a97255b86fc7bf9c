"""How images are drawn and normalised: with replacement; with their mean image and one standard deviation."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from tiny import TinyImages, figures

from trainer import ConfigError, Runtime, TrainConfig, train
from trainer.augmentations.horizontal_flip import HorizontalFlip
from trainer.augmentations.random_crop import RandomCrop
from trainer.data import load, splits
from trainer.data.pipeline import Pipeline, pixel_statistics
from trainer.evaluation import evaluate
from trainer.kept import load_weights
from trainer.loop import Run
from trainer.parallel import Group

CPU = torch.device("cpu")
SPEC = TinyImages.spec
PLACES = torch.arange(26)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels_of(cache_dir: Path) -> torch.Tensor:
    return torch.from_numpy(load(TinyImages(), Path(), cache_dir).train_x)


def run_of(cache_dir: Path, seed: int = 0, **options: Any) -> Run:
    return Run(tiny.config(**options), seed, Runtime(cache_dir=cache_dir), Group())


# --- sampling ----------------------------------------------------------------------------------


def test_with_replacement_every_image_is_as_likely_at_every_place(cache_dir):
    run = run_of(cache_dir, sampling="replacement")
    orders = torch.stack([run.data.order(epoch) for epoch in range(2000)])
    assert orders.shape == (2000, 26)
    counts = torch.bincount(orders.flatten(), minlength=26)
    assert len(counts) == 26
    assert (counts / 2000).sub(1).abs().max() < 0.1  # 4 standard deviations
    left_out = torch.tensor([26 - len(order.unique()) for order in orders]).float().mean()
    assert left_out.item() == pytest.approx(26 * (25 / 26) ** 26, rel=0.05)


def test_the_draws_depend_on_seed_and_epoch_alone(cache_dir):
    orders = [run_of(cache_dir, seed, sampling="replacement").data.order(1) for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


def test_a_shuffled_epoch_has_every_image_once(cache_dir):
    assert sorted(run_of(cache_dir).data.order(0).tolist()) == list(range(26))


# --- normalisation by pixel --------------------------------------------------------------------


def test_statistics_are_exact(cache_dir):
    pixels = pixels_of(cache_dir)
    mean, std = pixel_statistics(pixels)
    exact = pixels.numpy().astype(np.float64)
    np.testing.assert_array_equal(mean.numpy(), exact.sum(0) / 26)
    assert std == pytest.approx(exact.std(), rel=1e-13)


def test_training_images_have_mean_0_at_every_pixel(cache_dir):
    pixels = pixels_of(cache_dir)
    images = Pipeline(SPEC, (), CPU, pixels=pixels).normalise(pixels)
    assert images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(images.mean(0), torch.zeros(2, 6, 6), atol=1e-6, rtol=0)
    exact = pixels.double()
    torch.testing.assert_close(images, ((exact - exact.mean(0)) / exact.std(correction=0)).float())


def test_images_are_normalised_before_they_are_cropped_and_mirrored(cache_dir):
    """So that a pixel meets the mean of its own place, and beyond the border there are zeros."""
    pixels = pixels_of(cache_dir)
    crop, flip = RandomCrop(padding=2), HorizontalFlip()
    pipeline = Pipeline(SPEC, (crop, flip), CPU, pixels=pixels)
    images = pipeline.augment(pixels, generator(), PLACES, 0)
    draws = generator()
    shape = (26, 2, 6, 6)
    offsets, mirrored = crop.draw(shape, draws), flip.draw(shape, draws)
    whole = pipeline.normalise(pixels)
    for image, one, (row, column), mirror in zip(images, whole, offsets.tolist(), mirrored, strict=True):
        padded = torch.zeros(2, 10, 10)
        padded[:, 2:8, 2:8] = one
        window = padded[:, row : row + 6, column : column + 6]
        assert torch.equal(image, window.flip(2) if mirror else window)


def test_the_mean_is_that_of_the_images_trained_on(cache_dir):
    """Not of those that are held out, or left out."""
    options: dict[str, Any] = {"normalisation": "per_pixel", "train_size": 10, "val_ratio": 0.3}
    run = run_of(cache_dir, **options)
    train_places, _ = splits.indices(26, 10, 7, 0)
    expected = Pipeline(SPEC, (), CPU, pixels=pixels_of(cache_dir)[train_places])
    assert torch.equal(run.data.pipeline.shift, expected.shift)
    assert torch.equal(run.data.pipeline.scale, expected.scale)


@pytest.mark.parametrize("normalisation", ["per_pixel", "per_channel_computed"])
@pytest.mark.parametrize("other", [None, TinyImages()])
def test_kept_weights_are_tested_as_they_were_trained(other, normalisation, cache_dir, tmp_path):
    config = tiny.config(normalisation=normalisation, train_size=16)
    path = tmp_path / "kept.pt"
    runtime = Runtime(cache_dir=cache_dir, weights_path=path, keep_checkpoint="last")
    result = train(config, seed=0, runtime=runtime)
    plain = train(
        dataclasses.replace(config, normalisation="per_channel"), seed=0, runtime=Runtime(cache_dir=cache_dir)
    )
    assert figures(result) != figures(plain)
    kept = load_weights_of_tiny(path, config)
    found = evaluate(kept, dataset=other, runtime=runtime)
    assert found.error == result.epochs[-1].test_error
    assert found.loss == pytest.approx(result.epochs[-1].test_loss, rel=1e-6)


def load_weights_of_tiny(path: Path, config: TrainConfig) -> Any:
    """Read kept weights of a network that is not registered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainConfig, "from_dict", lambda values: config)
        return load_weights(path)


def test_streamed_images_are_refused():
    with pytest.raises(ConfigError, match="normalisation: cannot be per_pixel for images that are streamed"):
        TrainConfig.from_dict(
            {
                "model": "resnet_imagenet",
                "dataset": "imagenet",
                "epochs": 1,
                "normalisation": "per_pixel",
            }
        )
