"""The mean and std that images are normalised with, if they are those of the images trained on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from trainer import ConfigError, Runtime, TrainConfig
from trainer.data import splits, statistics
from trainer.data.statistics import mean_and_std, normalised_spec
from trainer.loop import Run
from trainer.parallel import Group

CIFAR10 = Path(os.environ.get("GRIDRUN_DATA", "")) / "npz" / "cifar10.npz"


def test_by_hand():
    pixels = np.array([[[[0, 255]], [[51, 51]]], [[[255, 0]], [[51, 51]]]], dtype=np.uint8)
    assert mean_and_std(pixels) == ((0.5, 0.2), (0.5, 1.0)), "a channel without variation is not divided"


def test_as_numpy_says_in_float64_however_it_is_cut(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 3, 5, 4), dtype=np.uint8)
    whole = mean_and_std(pixels)
    assert whole[0] == pytest.approx((pixels / 255).mean((0, 2, 3)))
    assert whole[1] == pytest.approx((pixels / 255).std((0, 2, 3)))
    monkeypatch.setattr(statistics, "CHUNK", 16)
    assert mean_and_std(pixels[::-1]) == whole


def run_of(config: TrainConfig, cache_dir: Path) -> Run:
    return Run(config, 0, Runtime(cache_dir=cache_dir), Group())


def test_a_trial_normalises_with_those_of_its_own_part(cache_dir):
    config = tiny.config(normalisation="per_channel_computed", train_size=17, val_size=5)
    own = run_of(config, cache_dir).data
    images = torch.cat([own.pipeline.normalise(pixels) for pixels, _ in own.train.batches(9)])
    assert len(images) == 17
    assert images.mean((0, 2, 3)).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert images.std((0, 2, 3), correction=0).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_the_data_set_s_own_by_default():
    assert normalised_spec(tiny.config(), None) == tiny.TinyImages.spec


def test_streamed_images_have_the_data_set_s():
    with pytest.raises(
        ConfigError, match="normalisation: cannot be per_channel_computed for images that are streamed"
    ):
        TrainConfig.from_dict(
            {
                "dataset": "imagenet",
                "model": {"name": "torchvision", "arch": "resnet18"},
                "epochs": 1,
                "normalisation": "per_channel_computed",
            }
        )


@pytest.mark.skipif(not CIFAR10.is_file(), reason="GRIDRUN_DATA names no directory with npz/cifar10.npz")
@pytest.mark.parametrize(
    ("train_size", "mean", "std"),
    [
        (4000, (0.49056774, 0.48116026, 0.44726052), (0.24710728, 0.24451308, 0.26235099)),
        (None, (0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784)),
    ],
)
def test_cifar_10_has_the_published_ones(train_size, mean, std):
    """Those of github.com/arcelien/pba: so these are the very images that it trains on."""
    pixels = np.load(CIFAR10)["train_x"]
    train, _ = splits.indices(50_000, train_size, 0, 0)
    found = mean_and_std(pixels[train])
    assert np.allclose(found, (mean, std), atol=5e-9, rtol=0)
