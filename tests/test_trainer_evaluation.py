"""Test errors, with and without test-time augmentation."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import nn

from trainer import ConfigError, Runtime, TrainConfig, evaluation, train
from trainer.data.pipeline import Pipeline, Split
from trainer.data.stream import StreamedSplit
from trainer.datasets import DataSpec
from trainer.evaluation import TTA, VIEWS, loss_and_errors, predictions
from trainer.kept import KeptWeights
from trainer.schema import field_types

CPU = torch.device("cpu")
SPEC = tiny.TinyImages.spec
N = 10


@pytest.fixture
def split() -> Split:
    images = tiny.TinyImages().decode(Path(), Path())
    return Split(torch.from_numpy(images.test_x), torch.from_numpy(images.test_y))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return tiny.TinyNet().build(SPEC).to(memory_format=torch.channels_last).eval()


PIPELINE = Pipeline(SPEC, (), CPU)


def logits_of(model: nn.Module, split: Split, tta: TTA = "none", share: float = 1.0) -> torch.Tensor:
    return torch.cat([logits for logits, _ in predictions(model, split, PIPELINE, "fp32", tta, share)])


def by_hand(model: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return the logits of normalised images in float64."""
    with torch.no_grad():
        return model.double()(torch.from_numpy(np.ascontiguousarray(images, dtype=np.float64))).numpy()


def views_of(images: np.ndarray, tta: TTA) -> list[tuple[float, np.ndarray]]:
    """Return the weights and the views that each `tta` averages, written out."""
    if tta.startswith("six_views"):
        padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
        whole, corner = (1 / 6, 1 / 6) if tta == "six_views_equal" else (1 / 4, 1 / 8)
        views = [(whole, images), (corner, padded[:, :, :6, :6]), (corner, padded[:, :, 2:, 2:])]
        return [*views, *((weight, view[..., ::-1]) for weight, view in views)]
    shifted = [images]
    if "shift" in tta:
        padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
        shifted += [padded[:, :, y : y + 6, x : x + 6] for y, x in ((0, 1), (2, 1), (1, 0), (1, 2))]
    if "flip" in tta:
        shifted += [view[..., ::-1] for view in shifted]
    return [(1 / len(shifted), view) for view in shifted]


def test_every_augmentation_of_a_config_has_views():
    assert set(get_args(field_types(TrainConfig)["tta"])) < set(get_args(TTA)) == set(VIEWS)


@pytest.mark.parametrize("tta", [tta for tta in get_args(TTA) if tta != "ten_crop"])
def test_the_logits_of_all_views_are_averaged(tta, model, split):
    mean, std = (np.array(values).reshape(1, -1, 1, 1) for values in (SPEC.mean, SPEC.std))
    found = logits_of(model, split, tta)
    assert found.dtype == torch.float32
    views = views_of((split.x.numpy() / 255 - mean) / std, tta)
    assert sum(weight for weight, _ in views) == pytest.approx(1)
    expected = sum(weight * by_hand(model, view) for weight, view in views)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("tta", get_args(TTA))
def test_weights_sum_to_one(tta):
    assert sum(VIEWS[tta].shifts.values()) == pytest.approx(1, abs=1e-12)


class Counted(nn.Module):
    """A network that says which images it is shown."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.seen = model, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += len(images)
        logits: torch.Tensor = self.model(images)
        return logits


@pytest.mark.parametrize(("share", "number"), [(0.01, 1), (0.3, 3), (0.31, 4), (0.99, 10)])
@pytest.mark.parametrize("size", [1000, 3])
def test_views_of_the_least_confident_images_alone(share, number, size, model, split, monkeypatch):
    monkeypatch.setattr(evaluation, "EVAL_BATCH_SIZE", size)
    plain, views = logits_of(model, split), logits_of(model, split, "six_views")
    confidence = [max(row) for row in plain.softmax(1).tolist()]
    least = sorted(range(N), key=confidence.__getitem__)[:number]
    expected = plain.clone()
    expected[least] = views[least]
    counted = Counted(model)
    torch.testing.assert_close(logits_of(counted, split, "six_views", share), expected)
    assert counted.seen == N + 6 * number


@pytest.mark.parametrize(("tta", "views"), [("none", 1), ("six_views", 6)])
def test_of_all_images_each_view_is_looked_at_once(tta, views, model, split):
    counted = Counted(model)
    logits_of(counted, split, tta)
    assert counted.seen == views * N


class Parts(StreamedSplit):
    """Five parts of each image, which no file holds."""

    def __init__(self, pixels: torch.Tensor) -> None:
        self.pixels, self.y = pixels, torch.zeros(len(pixels), dtype=torch.int64)

    def batches(self, size: int, crops: Any = 1) -> Any:
        assert crops == 5
        yield self.pixels.flatten(0, 1), self.y


def test_of_ten_crops_the_probabilities_are_averaged(model):
    parts = torch.randint(256, (3, 5, 2, 6, 6), dtype=torch.uint8)
    found = logits_of(model, Parts(parts), "ten_crop")  # type: ignore[arg-type]
    mean, std = (np.array(values).reshape(1, -1, 1, 1) for values in (SPEC.mean, SPEC.std))
    for logits, images in zip(found, parts.numpy(), strict=True):
        views = (images / 255 - mean) / std
        exponents = np.exp(by_hand(model, np.concatenate([views, views[..., ::-1]])))
        expected = (exponents / exponents.sum(1, keepdims=True)).mean(0)
        np.testing.assert_allclose(logits.exp().numpy(), expected, atol=1e-5)


def test_images_of_equal_confidence_are_taken_in_stored_order(split):
    """Half of the images keep the logits of the image alone: these are the last."""

    class Left(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, :1, 0, 0] * torch.tensor([[1.0, 0.0, 0.0]])

    same = Split(split.x[:1].expand(N, -1, -1, -1), split.y)
    plain, half = logits_of(Left(), same), logits_of(Left(), same, "flip", 0.5)
    assert (half != plain).any(1).tolist() == [True] * 5 + [False] * 5


@pytest.mark.parametrize("size", [1000, 4])
def test_without_views_loss_and_errors_are_what_they_were(size, model, split, monkeypatch):
    """Bit for bit: sums in float64 of what each batch gives in float32."""
    monkeypatch.setattr(evaluation, "EVAL_BATCH_SIZE", size)
    loss, wrong = 0.0, 0
    with torch.no_grad():
        for x, y in split.batches(size):
            logits = model(PIPELINE.normalise(x))
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            wrong += int((logits.argmax(1) != y).sum())
    assert loss_and_errors(model, split, PIPELINE, "fp32") == (loss / N, wrong / N, None)


@pytest.mark.parametrize(("tta", "share"), [("flip", 1.0), ("six_views", 1.0), ("six_views", 0.4)])
def test_loss_and_errors_are_of_the_averaged_logits(tta, share, model, split):
    logits = logits_of(model, split, tta, share)
    loss = -logits.log_softmax(1)[torch.arange(N), split.y].mean().item()
    found = loss_and_errors(model, split, PIPELINE, "fp32", tta, share)
    error = pytest.approx((logits.argmax(1) != split.y).sum() / N)
    assert found == (pytest.approx(loss, rel=1e-6), error, None)


def test_every_tested_epoch_has_its_views(cache_dir):
    """Training is the same; the mirror image alone moves the test loss."""
    flip, six_views = {"tta": "flip"}, {"tta": "six_views"}
    plain, *others = (
        train(tiny.config(**options), seed=0, runtime=Runtime(cache_dir=cache_dir))
        for options in ({}, flip, six_views, flip | {"tta_least_confident": 0.2})
    )
    for result in others:
        for one, other in zip(plain.epochs, result.epochs, strict=True):
            assert (one.train_loss, one.train_error) == (other.train_loss, other.train_error)
            assert one.test_loss != other.test_loss
    losses = [[epoch.test_loss for epoch in result.epochs] for result in others]
    assert all(one != other for one, other in itertools.combinations(losses, 2))


IMAGENET_MODEL = {"name": "torchvision", "arch": "resnet18"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tta": "flop"}, "tta: unknown choice 'flop'. Did you mean 'flip'?"),
        ({"tta": "flip", "tta_least_confident": 0}, "tta_least_confident: must be > 0 and <= 1, got 0.0"),
        ({"tta": "flip", "tta_least_confident": 1.5}, "tta_least_confident: must be > 0 and <= 1, got 1.5"),
        ({"tta_least_confident": 0.5}, "tta_least_confident: has no effect without tta"),
        (
            {"tta": "ten_crop"},
            "tta: ten_crop needs images that are streamed: imagenet, or image_folder with stream: true",
        ),
        (
            {"model": IMAGENET_MODEL, "dataset": "imagenet", "tta": "flip", "tta_least_confident": 0.5},
            "tta_least_confident: must be 1 for images that are streamed, got 0.5",
        ),
    ],
)
def test_what_cannot_be_tested_is_refused(options: dict[str, Any], message: str):
    usual = {"model": {"name": "resnet_preact", "depth": 20}, "dataset": "cifar10", "epochs": 1}
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_dict(usual | options)
    assert str(caught.value) == message


# --- top-5 error -------------------------------------------------------------------------------


class Ranked(nn.Module):
    """Gives the classes the logits 0, 1, 2, ...: with `n` of them, the five last are the likeliest."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(float(n)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.weight.expand(len(images), -1)


def test_top5_error_is_of_the_five_most_probable(split):
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 6, 6, 2, 1])
    ranked = Split(split.x, labels)
    loss, error, top5_error = loss_and_errors(Ranked(7), ranked, PIPELINE, "fp32")
    assert (error, top5_error) == (0.8, 0.3)  # 0, 1 and 1 are not among 2 ... 6
    assert loss == pytest.approx(-(torch.arange(7.0).log_softmax(0)[labels]).mean().item(), rel=1e-6)


@pytest.mark.parametrize("classes", [3, 5])
def test_with_five_classes_or_fewer_there_is_no_top5_error(classes, split):
    assert loss_and_errors(Ranked(classes), split, PIPELINE, "fp32")[2] is None


def test_an_evaluation_has_it_too():
    rows = np.tile(np.arange(7, dtype=np.float32), (3, 1))
    found = evaluation.Evaluation(labels=np.array([0, 2, 6]), probabilities=rows, loss=0.0)
    assert found.top5_error == pytest.approx(1 / 3)
    few = evaluation.Evaluation(labels=np.array([0, 2, 4]), probabilities=rows[:, :5], loss=0.0)
    assert few.top5_error is None


def test_a_trial_on_ten_classes_reports_it(cache_dir):
    config = TrainConfig(model=tiny.TinyNet(), epochs=2, batch_size=103)
    result = train(config, seed=0, runtime=Runtime(cache_dir=cache_dir))
    assert all(0 <= epoch.top5_error < epoch.test_error < 1 for epoch in result.epochs)


class CountingNet(tiny.TinyNet):
    """Its state begins with a whole number."""

    def build(self, data: DataSpec) -> nn.Module:
        network = nn.Module()
        network.register_buffer("steps", torch.tensor(0))
        network.add_module("rest", tiny.TinyNet.build(self, data))
        return network


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_kept_weights_stay_in_their_precision(dtype):
    config = tiny.config(model=CountingNet())
    state = {"steps": torch.tensor(7), **CountingNet().build(SPEC).to(dtype).state_dict()}
    network = KeptWeights(config, 0, None, "last", 1, state).network()
    assert network.state_dict()["steps"].dtype == torch.int64
    assert {p.dtype for p in network.parameters()} == {dtype}


def test_kept_weights_are_evaluated_on_as_many_threads_as_asked(
    monkeypatch: pytest.MonkeyPatch, cache_dir: Path
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    weights = tiny.TinyNet().build(SPEC).state_dict()
    kept = KeptWeights(tiny.config(), 0, "0" * 16, "last", 1, weights)
    evaluation.evaluate(kept, runtime=Runtime(cache_dir=cache_dir, threads=3))
    assert asked == [3]
