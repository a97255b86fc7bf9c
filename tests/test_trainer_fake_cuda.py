"""Training on a GPU, as far as that can be seen without one: see `fake_cuda`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import any_config
import pytest
import tiny
import torch
from fake_cuda import DEVICE, NoWaiting, fake_cuda
from test_trainer_families_learn import CASES, smallest_images
from torch.utils import _pytree

from trainer import Runtime, TrainConfig, data, evaluation, parallel
from trainer.augmentations import FileAugmentation, augmentations
from trainer.config import Precision
from trainer.kept import KeptWeights
from trainer.loop import Run
from trainer.models import models
from trainer.optimizers import optimizers
from trainer.schema import read_options
from trainer.selections.proxy import ProxyOptions

ON_DEVICE = [
    name for name in augmentations.names() if not issubclass(augmentations.get(name), FileAugmentation)
]
EVERYTHING: dict[str, Any] = {
    "gradient_clip": 0.5,
    "subdivision": 2,
    "ema_decay": 0.5,
    "label_smoothing": 0.1,
    "select_examples": ProxyOptions(model=tiny.TinyNet()),
    "no_weight_decay_on_bn": True,
    "model": tiny.TinyNet(dropout=0.5),
}


@pytest.fixture
def runtime(cache_dir: Path) -> Runtime:
    return Runtime(cache_dir=cache_dir, device="cuda")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with fake_cuda(monkeypatch):
        yield


def begun(config: TrainConfig, runtime: Runtime) -> Run:
    return Run(config, 0, runtime, parallel.Group())


def devices(state: Any) -> set[torch.device]:
    return {leaf.device for leaf in _pytree.tree_leaves(state) if isinstance(leaf, torch.Tensor)}


def check_an_epoch(config: TrainConfig, runtime: Runtime) -> Run:
    run = begun(config, runtime)
    assert devices(run.learner.model.state_dict()) == {DEVICE}
    run.epoch()
    assert run.learner.step == config.steps_per_epoch
    return run


@pytest.mark.parametrize("name", ON_DEVICE)
def test_every_augmentation(name: str, runtime: Runtime, gpu: None) -> None:
    chosen = (any_config.augmentation(name),)
    check_an_epoch(tiny.config(augmentation=chosen, dataset=tiny.ColourImages()), runtime)


@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize("name", optimizers.names())
def test_every_optimiser_in_every_precision(
    name: str, precision: Precision, runtime: Runtime, gpu: None
) -> None:
    config = tiny.config(optimizer=optimizers.get(name)(), precision=precision, **EVERYTHING)
    check_an_epoch(config, runtime)


@pytest.mark.parametrize("values", CASES, ids=lambda values: values["name"])
def test_every_family(values: dict[str, Any], runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    model, dataset = read_options(models, values, "model"), smallest_images(values)
    config = TrainConfig(model=model, dataset=dataset, epochs=1, batch_size=64, precision="mixed_bf16")
    data.load(dataset, runtime.data_dir, runtime.cache_dir)
    with fake_cuda(monkeypatch):
        check_an_epoch(config, runtime)


def test_a_checkpoint_is_taken_over(runtime: Runtime, gpu: None) -> None:
    config = tiny.config(optimizer=optimizers.get("lars")(), precision="mixed_fp16", **EVERYTHING)
    state = check_an_epoch(config, runtime).state_dict()
    assert devices(state) == {DEVICE, torch.device("cpu")}
    on_cpu = _pytree.tree_map_only(torch.Tensor, torch.Tensor.cpu, state)
    other = begun(config, runtime)
    other.load_state_dict(on_cpu)
    assert (
        devices(other.learner.model.state_dict())
        == devices(other.learner.average.model.state_dict())
        == {DEVICE}
    )
    assert devices(other.learner.optimizer.state_dict()) == {DEVICE}
    other.epoch()
    assert devices(other._weights()) == {torch.device("cpu")}


def test_kept_weights_are_evaluated(runtime: Runtime, gpu: None) -> None:
    config = tiny.config(precision="pure_fp16")
    weights = begun(config, runtime)._weights()
    kept = KeptWeights(config, 0, None, "last", **weights)
    found = evaluation.evaluate(kept, tta="flip+shift", runtime=runtime)
    assert found.probabilities.shape == (10, 3)


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("tta", [tta for tta in get_args(evaluation.TTA) if tta != "ten_crop"])
def test_no_test_waits_before_its_end(tta: Any, share: float, runtime: Runtime, gpu: None) -> None:
    run = begun(tiny.config(precision="mixed_bf16"), runtime)
    with NoWaiting():
        batches = evaluation.predictions(
            run.learner.model, run.data.test, run.data.pipeline, "mixed_bf16", tta, share
        )
        assert [(logits.shape, len(labels)) for logits, labels in batches] == [((10, 3), 10)]


def test_the_watch_sees_what_waits(gpu: None) -> None:
    x, y = torch.rand(8, device="cuda"), torch.rand(8)
    waits = (
        lambda: x[x > 0],
        lambda: x.sum().item(),
        lambda: bool(x.sum() > 0),
        lambda: x.to("cpu"),
        lambda: y.to("cuda"),
        lambda: x.copy_(y),
        lambda: torch.tensor([1.0], device="cuda"),
        lambda: x + y,
    )
    for wait in waits:
        with pytest.raises(Exception, match=r"waits|copied|same device|aten"), NoWaiting():
            wait()
