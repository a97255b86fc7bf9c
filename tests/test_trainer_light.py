"""Colour jitter and PCA lighting: against torchvision and by hand, and their place in the pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms.v2 import functional

from trainer import ConfigError, TrainConfig
from trainer.augmentations import ImageAugmentation
from trainer.augmentations.brightness import Brightness
from trainer.augmentations.colour_jitter import ColourJitter
from trainer.augmentations.horizontal_flip import HorizontalFlip
from trainer.augmentations.pca_lighting import PCALighting
from trainer.data.pipeline import Pipeline
from trainer.datasets.imagenet import ImageNet

N, SIZE = 12, 5
SHAPE = (N, 3, SIZE, SIZE)
SPEC = ImageNet(image_size=SIZE, resize=SIZE).spec
ADJUST = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(options: ImageAugmentation, n: int = 20_000) -> torch.Tensor:
    return options.draw((n, 3, 2, 2), generator())


# --- colour jitter -----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_jitter_is_torchvisions_functions_in_the_drawn_order(layout):
    """The images are so grey that torchvision, which cuts values off at 0 and 1, does not."""
    x = (0.3 + 0.1 * torch.rand(SHAPE, generator=generator())).to(memory_format=layout)
    draws = ColourJitter().draw(SHAPE, generator(1))
    found = ColourJitter().apply(x, draws)
    orders = set()
    for image, jittered, row in zip(x, found, draws.tolist(), strict=True):
        order = sorted(range(3), key=row[3:].__getitem__)
        orders.add(tuple(order))
        for change in order:
            image = ADJUST[change](image, row[change])
        torch.testing.assert_close(jittered, image, atol=1e-4, rtol=0)  # torchvision's grey has 0.2989 red
    assert len(orders) > 3


def test_jitter_by_hand():
    """A red and a blue pixel: brightness 0.5, then saturation 0, then contrast 2."""
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]).view(1, 3, 1, 2)
    draws = torch.tensor([[0.5, 2.0, 0.0, 0.1, 0.9, 0.5]])
    red, blue = 0.299 / 2, 0.114 / 2
    mean = (red + blue) / 2
    expected = [2 * red - mean, 2 * blue - mean]
    torch.testing.assert_close(ColourJitter().apply(x, draws).view(3, 2), torch.tensor([expected] * 3))


def test_jitter_does_not_cut_values_off():
    white = torch.ones(1, 3, 2, 2)
    brighter = ColourJitter().apply(white, torch.tensor([[1.4, 1.0, 1.0, 0.0, 0.1, 0.2]]))
    torch.testing.assert_close(brighter, 1.4 * white)


def test_jitters_numbers_are_uniform_and_its_orders_equally_likely():
    draws = drawn(ColourJitter(brightness=0.4, contrast=0.2, saturation=1)).double().numpy()
    for column, amount in zip(draws.T[:3], (0.4, 0.2, 1), strict=True):
        assert stats.kstest(column, stats.uniform(1 - amount, 2 * amount).cdf).pvalue > 0.001
    orders, counts = np.unique(draws[:, 3:].argsort(1), axis=0, return_counts=True)
    assert len(orders) == 6
    assert stats.chisquare(counts).pvalue > 0.001


def test_jitter_of_no_amount_changes_nothing():
    x = torch.rand(SHAPE, generator=generator())
    still = ColourJitter(brightness=0, contrast=0, saturation=0)
    assert torch.equal(still.apply(x, still.draw(SHAPE, generator())), x)


# --- PCA lighting ------------------------------------------------------------------------------


def test_lighting_by_its_formula():
    vectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    values = np.array([0.2175, 0.0188, 0.0045])
    x, draws = torch.rand(SHAPE, generator=generator()), PCALighting().draw(SHAPE, generator(1))
    added = np.einsum("cj,j,nj->nc", vectors, values, draws.numpy())
    found = PCALighting().apply(x, draws)
    np.testing.assert_allclose(found.numpy(), x.numpy() + added[:, :, None, None], atol=1e-6)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=2e-4)


def test_lightings_numbers_are_normal():
    draws = drawn(PCALighting(std=0.3)).double().numpy()
    assert draws.shape == (20_000, 3)
    assert stats.kstest(draws.ravel(), stats.norm(0, 0.3).cdf).pvalue > 0.001
    assert abs(np.corrcoef(draws.T) - np.eye(3)).max() < 0.03


def test_lighting_of_no_strength_changes_nothing():
    x = torch.rand(SHAPE, generator=generator())
    assert torch.equal(PCALighting(std=0).apply(x, PCALighting(std=0).draw(SHAPE, generator())), x)


# --- in the pipeline ---------------------------------------------------------------------------


def test_light_changes_before_normalisation_and_jitter_before_lighting():
    pixels = torch.randint(0, 256, SHAPE, generator=generator(), dtype=torch.uint8)
    jitter, lighting, flip, late = ColourJitter(), PCALighting(), HorizontalFlip(), Brightness()
    pipeline = Pipeline(SPEC, (late, lighting, flip, jitter), torch.device("cpu"))
    found = pipeline.augment(pixels, generator(5), torch.arange(N), 0)
    source, x = generator(5), pixels
    x = flip.apply(x, flip.draw(SHAPE, source)).float() / 255
    x = jitter.apply(x, jitter.draw(SHAPE, source))
    x = lighting.apply(x, lighting.draw(SHAPE, source))
    x = functional.normalize(x, list(SPEC.mean), list(SPEC.std))
    x = late.apply(x, late.draw(SHAPE, source))
    torch.testing.assert_close(found, x, atol=1e-5, rtol=0)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        ({"colour_jitter": True}, "augmentation.colour_jitter: takes RGB images, the data set's have 1 chan"),
        ({"pca_lighting": True}, "augmentation.pca_lighting: takes RGB images, the data set's have 1 chan"),
        ({"colour_jitter": {"contrast": 1.5}}, "augmentation.colour_jitter.contrast: must be in 0..1, got"),
        ({"pca_lighting": {"std": -1}}, "augmentation.pca_lighting.std: must be >= 0, got -1.0"),
    ],
)
def test_what_light_cannot_change_is_refused(augmentation: dict[str, Any], message: str):
    model = {"name": "resnet", "depth": 8}
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_dict({"model": model, "dataset": "mnist", "epochs": 1, "augmentation": augmentation})
    assert str(caught.value).startswith(message)
