"""The training loop: it learns, repeats itself bit for bit, and resumes as if nothing had happened."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tiny
import torch
from tiny import TinyImages, TinyNet, figures
from torch import nn

from trainer import Runtime, TrainConfig, checkpoint, compiling, evaluation, loop, parallel, seeds
from trainer.augmentations.dual_cutout import DualCutout
from trainer.augmentations.horizontal_flip import HorizontalFlip
from trainer.augmentations.random_crop import RandomCrop
from trainer.averages.ema import EMA
from trainer.averages.lookahead import Lookahead
from trainer.data import load
from trainer.data.pipeline import Pipeline, order_of, to_device
from trainer.datasets import DataSpec
from trainer.learner import Learner
from trainer.loop import Interrupted, Run, train
from trainer.metrics import Epoch, Result
from trainer.models import ModelOptions
from trainer.optimizers import optimizers
from trainer.optimizers.sgd import SGD
from trainer.parallel import Group
from trainer.parameter_groups.bn_bias import BNBias
from trainer.parameter_groups.head import Head
from trainer.schedules import schedules
from trainer.schedules.constant import Constant
from trainer.schedules.multistep import Multistep
from trainer.selections.proxy import ProxyOptions
from trainer.warmups.linear import Linear

TESTS = Path(__file__).parent
NUM_STEPS = 9  # of `tiny.config()`: 3 epochs of 3
AUGMENTED = (RandomCrop(padding=1), HorizontalFlip())
TWICE = (DualCutout(size=3, alpha=0.5), HorizontalFlip())
"""Each image is in a batch twice, and the loss is also of the two together."""

CONFIGS: dict[str, TrainConfig] = {
    "cosine after warm-up": tiny.config(warmup=Linear(epochs=1.5)),
    "multistep": tiny.config(schedule=Multistep(milestones=(1.0, 2.0))),
    "augmented": tiny.config(augmentation=(RandomCrop(padding=1), HorizontalFlip())),
    "mixed bf16": tiny.config(precision="mixed_bf16"),
    "mixed fp16": tiny.config(precision="mixed_fp16"),
    "dropout": tiny.config(model=TinyNet(dropout=0.5)),
    "plain sgd": tiny.config(optimizer=SGD(momentum=0, nesterov=False)),
}
SCHEDULES: dict[str, dict[str, Any]] = {  # options that each schedule is tried with
    "multistep": {"milestones": (1.0, 2.0)},
    "piecewise_linear": {"knots": ((0.0, 0.1), (1.5, 1.0), (3.0, 0.0))},
    "sgdr": {"first_period": 1.0},
}
FEATURES: dict[str, dict[str, Any]] = {
    "clipped": {"gradient_clip": 0.5},
    "clipped with weight decay": {"gradient_clip": 0.5, "clip_weight_decay": True},
    "subdivided": {"subdivision": 4},
    "subdivided twice over": {"subdivision": 4, "augmentation": TWICE},
    "averaged": {"ema_decay": 0.5},
    "lookahead": {"average": Lookahead(every=2)},
    "averaged now and then": {"average": EMA(decay=0.5, every=2, ramp=1.0)},
    "parameter groups": {
        "parameter_groups": (BNBias(lr=1.0, epochs=1.5, anneal=True), Head(weight_decay=0.1))
    },
    "flipped in turn": {"augmentation": (HorizontalFlip(alternating=True),)},
    "selected": {"select_examples": ProxyOptions(model=TinyNet(channels=4, dropout=0.5), update_every=2)},
    "no weight decay on bn": {"no_weight_decay_on_bn": True, "weight_decay": 0.1},
    "pure fp16": {"precision": "pure_fp16"},
    "bn momentum": {"bn_momentum": 0.5, "bn_scale_init": "uniform"},
    "dynamic bn momentum": {"bn_momentum": "dynamic"},
    "drawn with replacement": {"sampling": "replacement", "augmentation": AUGMENTED},
    "normalised by pixel": {"normalisation": "per_pixel", "augmentation": AUGMENTED},
    "all": {
        "gradient_clip": 0.5,
        "subdivision": 2,
        "ema_decay": 0.5,
        "no_weight_decay_on_bn": True,
        "precision": "mixed_fp16",
        "model": TinyNet(dropout=0.5),
        "augmentation": (RandomCrop(padding=1), HorizontalFlip()),
    },
}
MORE_CONFIGS: dict[str, TrainConfig] = {
    **{name: tiny.config(optimizer=optimizers.get(name)(), lr=0.01) for name in optimizers.names()},
    **{
        name: tiny.config(schedule=schedules.get(name)(**SCHEDULES.get(name, {})))
        for name in schedules.names()
    },
    **{name: tiny.config(**options) for name, options in FEATURES.items()},
    **{
        f"{name} with all": tiny.config(optimizer=optimizers.get(name)(), lr=0.01, **FEATURES["all"])
        for name in optimizers.names()
    },
}


@pytest.fixture
def runtime(cache_dir, tmp_path) -> Runtime:
    """Return a placement on CPU with a checkpoint file, never saved unless asked for."""
    return Runtime(cache_dir=cache_dir, checkpoint=tmp_path / "trial.ckpt", checkpoint_seconds=math.inf)


def from_step(step: int) -> Callable[[], bool]:
    """Return a `should_stop` that says yes before the step counted so from the first it is asked at."""
    asked = itertools.count()
    return lambda: next(asked) >= step


def interrupt(config: TrainConfig, runtime: Runtime, step: int, seed: int = 0) -> list[Epoch]:
    """Train to just before `step`, counted from where the run begins; return what was reported."""
    reported: list[Epoch] = []
    with pytest.raises(Interrupted):
        train(
            config,
            seed=seed,
            report=reported.append,
            runtime=dataclasses.replace(runtime, should_stop=from_step(step)),
        )
    return reported


# --- learning ----------------------------------------------------------------------------------


def test_overfits_one_batch(cache_dir):
    config = tiny.config(epochs=60, batch_size=26, schedule=Constant(), weight_decay=0.0)
    result = train(config, seed=0, runtime=Runtime(cache_dir=cache_dir))
    first, last = result.epochs[0], result.epochs[-1]
    assert first.train_loss > 0.5
    assert last.train_loss < 0.01
    assert last.train_error == 0


@pytest.mark.parametrize("precision", ["fp32", "tf32", "mixed_bf16", "mixed_fp16", "pure_fp16"])
def test_learns_digits_in_every_precision(precision, cache_dir):
    config = TrainConfig(model=TinyNet(), epochs=3, batch_size=103, init="fan_in", precision=precision)
    result = train(config, seed=0, runtime=Runtime(cache_dir=cache_dir))
    assert result.status == "done"
    assert 0 <= result.epochs[-1].top5_error < result.epochs[-1].test_error < 0.1


def test_the_first_step_counts_what_the_network_says_before_it(cache_dir):
    """All 26 images are one batch here, so the order does not matter."""
    runtime, config = Runtime(cache_dir=cache_dir), tiny.config(batch_size=26, epochs=1)
    run = Run(config, 0, runtime, Group())
    logits = run.learner.model(run.data.pipeline.normalise(run.data.train.x))
    labels = torch.as_tensor(run.data.train.y).long()
    (epoch,) = train(config, seed=0, runtime=runtime).epochs
    assert epoch.train_error == pytest.approx((logits.argmax(1) != labels).float().mean().item())
    assert epoch.train_loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)


def test_what_a_result_says(cache_dir):
    reported: list[Epoch] = []
    config = tiny.config()
    result = train(config, seed=0, report=reported.append, runtime=Runtime(cache_dir=cache_dir))
    assert result.status == "done"
    assert list(result.epochs) == reported
    assert [epoch.epoch for epoch in reported] == [1, 2, 3]
    assert [epoch.lr for epoch in reported] == [config.lr_at(step) for step in (2, 5, 8)]
    assert all(epoch.train_error * 24 == pytest.approx(round(epoch.train_error * 24)) for epoch in reported)
    assert all(epoch.test_error * 10 == pytest.approx(round(epoch.test_error * 10)) for epoch in reported)
    assert all(epoch.train_seconds > 0 for epoch in reported)
    assert result.num_params == 8 * 2 * 9 + 2 * 8 + 8 * 36 * 3 + 3
    assert result.num_images == 72  # 3 x 24 of 26: the incomplete batch is dropped
    assert result.train_seconds == pytest.approx(sum(epoch.train_seconds for epoch in reported))
    assert result.images_per_second == pytest.approx(72 / result.train_seconds)
    assert result.best in reported
    assert result.best.test_error == min(epoch.test_error for epoch in reported)
    assert (result.resumes, result.notes, result.compiled) == (0, (), False)


def test_an_epoch_sees_each_image_once_in_a_new_order(cache_dir, monkeypatch):
    seen: list[torch.Tensor] = []
    augment = Pipeline.augment

    def watched(self: Pipeline, pixels: torch.Tensor, *others: Any) -> torch.Tensor:
        seen.append(pixels)
        return augment(self, pixels, *others)

    monkeypatch.setattr(Pipeline, "augment", watched)
    train(tiny.config(batch_size=13, epochs=2), seed=0, runtime=Runtime(cache_dir=cache_dir))
    every = {
        image.numpy().tobytes() for image in torch.from_numpy(TinyImages().decode(Path(), Path()).train_x)
    }
    orders = [[image.numpy().tobytes() for batch in part for image in batch] for part in (seen[:2], seen[2:])]
    assert all(sorted(order) == sorted(every) for order in orders)
    assert orders[0] != orders[1]


def test_each_image_is_flipped_in_every_other_epoch(cache_dir, monkeypatch):
    epochs: list[dict[int, torch.Tensor]] = []
    augment = Pipeline.augment

    def watched(self: Pipeline, pixels: Any, generator: Any, places: torch.Tensor, epoch: int) -> Any:
        images = augment(self, pixels, generator, places, epoch)
        epochs.extend({} for _ in range(epoch + 1 - len(epochs)))
        epochs[epoch].update(zip(places.tolist(), images, strict=True))
        return images

    monkeypatch.setattr(Pipeline, "augment", watched)
    config = tiny.config(batch_size=13, augmentation=(HorizontalFlip(alternating=True),))
    train(config, seed=0, runtime=Runtime(cache_dir=cache_dir))
    first, second, third = epochs
    assert sorted(first) == sorted(second) == sorted(third) == list(range(26))
    assert all(torch.equal(second[place], image.flip(2)) for place, image in first.items())
    assert all(torch.equal(third[place], image) for place, image in first.items())


def test_every_step_has_its_own_learning_rate(cache_dir):
    used: list[float] = []

    class Noted(SGD):
        def build(self, groups: list[dict[str, Any]], lr: float, total_steps: int) -> torch.optim.Optimizer:
            optimizer = SGD().build(groups, lr, total_steps)
            optimizer.register_step_pre_hook(lambda *_: used.append(optimizer.param_groups[0]["lr"]))
            return optimizer

    config = tiny.config(optimizer=Noted(), warmup=Linear(epochs=1))
    train(config, seed=0, runtime=Runtime(cache_dir=cache_dir))
    assert used == [config.lr_at(step) for step in range(NUM_STEPS)]


def test_evaluation_is_a_mean_over_images_however_they_are_batched(cache_dir, monkeypatch):
    images = load(TinyImages(), Path(), cache_dir)
    _, split = to_device(images, torch.device("cpu"))
    pipeline = Pipeline(TinyImages.spec, (), torch.device("cpu"))
    torch.manual_seed(0)
    model = TinyNet(dropout=0.5).build(TinyImages.spec).eval()
    with torch.no_grad():
        logits = model(pipeline.normalise(split.x))
    loss = -logits.log_softmax(1)[torch.arange(10), split.y].mean().item()
    error = sum(int(row.argmax()) != int(y) for row, y in zip(logits, split.y, strict=True)) / 10
    for size in (1000, 4, 1):
        monkeypatch.setattr(evaluation, "EVAL_BATCH_SIZE", size)
        model.train()
        found = evaluation.loss_and_errors(model, split, pipeline, "fp32")
        assert found == (pytest.approx(loss), pytest.approx(error), None)


# --- what a step does with a batch and with its gradients --------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched(SGD):
    """SGD that keeps the gradients it is given."""

    seen: list[list[torch.Tensor]] = field(default_factory=list, compare=False)

    def build(self, groups: list[dict[str, Any]], lr: float, total_steps: int) -> torch.optim.Optimizer:
        optimizer = SGD.build(self, groups, lr, total_steps)

        def keep(*_: Any) -> None:
            params = [p for group in optimizer.param_groups for p in group["params"]]
            self.seen.append([p.grad.clone() for p in params])

        optimizer.register_step_pre_hook(keep)
        return optimizer


def gradients(cache_dir: Path, **options: Any) -> list[list[torch.Tensor]]:
    """Return the gradients of each step, one tensor a parameter."""
    optimizer = Watched()
    train(tiny.config(optimizer=optimizer, **options), seed=0, runtime=Runtime(cache_dir=cache_dir))
    return optimizer.seen


def total_norm(tensors: list[torch.Tensor]) -> float:
    return math.sqrt(sum(value * value for tensor in tensors for value in tensor.flatten().tolist()))


@pytest.mark.parametrize("precision", ["fp32", "mixed_fp16"])
def test_long_gradients_are_scaled_down_together(precision, cache_dir):
    first = gradients(cache_dir, precision=precision)[0]
    clipped = gradients(cache_dir, precision=precision, gradient_clip=0.1)
    assert total_norm(first) > 0.5
    for grad, shorter in zip(first, clipped[0], strict=True):
        torch.testing.assert_close(shorter, grad * (0.1 / total_norm(first)))
    assert all(total_norm(grads) == pytest.approx(0.1, rel=1e-4) for grads in clipped)


@pytest.mark.parametrize("precision", ["fp32", "mixed_fp16"])
def test_weight_decay_may_be_clipped_too(precision, cache_dir):
    decay = {"precision": precision, "weight_decay": 3.0}
    plain = gradients(cache_dir, **decay)[0]
    decayed = gradients(cache_dir, **decay, gradient_clip=1e9, clip_weight_decay=True)[0]
    weights = [(whole - grad) / 3 for whole, grad in zip(decayed, plain, strict=True)]
    model = Run(tiny.config(), 0, Runtime(cache_dir=cache_dir), Group()).learner.model
    for weight, first in zip(weights, model.parameters(), strict=True):
        torch.testing.assert_close(weight, first.detach(), atol=1e-4, rtol=1e-3)
    clipped = gradients(cache_dir, **decay, gradient_clip=0.1, clip_weight_decay=True)[0]
    for whole, shorter in zip(decayed, clipped, strict=True):
        torch.testing.assert_close(shorter, whole * (0.1 / total_norm(decayed)))


def test_the_l2_term_of_a_gradient_that_is_not_clipped_is_that_of_the_optimiser(cache_dir):
    options: dict[str, Any] = {"gradient_clip": 1e9, "weight_decay": 0.1, "no_weight_decay_on_bn": True}
    options |= {"parameter_groups": (Head(weight_decay=0.3),)}
    found = [
        train(tiny.config(**options, clip_weight_decay=clip), seed=0, runtime=Runtime(cache_dir=cache_dir))
        for clip in (False, True)
    ]
    losses = [[epoch.train_loss for epoch in result.epochs] for result in found]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "mixed_fp16"])
def test_short_gradients_are_not_clipped(precision, cache_dir):
    plain, clipped = (gradients(cache_dir, precision=precision, gradient_clip=clip) for clip in (None, 1e3))
    for grads, others in zip(plain, clipped, strict=True):
        assert all(torch.equal(grad, other) for grad, other in zip(grads, others, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainNet(ModelOptions):
    """Without batch normalisation, so that images do not meet. Not registered."""

    name: ClassVar[str] = "plain_net"
    kind: ClassVar[str] = "model"
    label: ClassVar[str] = "PlainNet"

    def build(self, data: DataSpec) -> nn.Module:
        size = data.channels * data.image_size**2
        return nn.Sequential(nn.Flatten(), nn.Linear(size, 8), nn.ReLU(), nn.Linear(8, data.num_classes))


@pytest.mark.parametrize("augmentation", [AUGMENTED, TWICE], ids=["once", "twice"])
@pytest.mark.parametrize("subdivision", [2, 4, 8])
def test_a_batch_in_parts_is_the_batch_where_images_do_not_meet(subdivision, augmentation, cache_dir):
    whole, parts = (
        gradients(cache_dir, model=PlainNet(), subdivision=n, augmentation=augmentation, label_smoothing=0.1)
        for n in (1, subdivision)
    )
    assert len(whole) == len(parts) == NUM_STEPS
    for grads, others in zip(whole, parts, strict=True):
        torch.testing.assert_close(others, grads, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("augmentation", [(), TWICE], ids=["once", "twice"])
def test_epochs_in_parts_are_counted_whole(augmentation, cache_dir):
    one, other = (
        train(
            tiny.config(model=PlainNet(), subdivision=n, augmentation=augmentation),
            seed=0,
            runtime=Runtime(cache_dir=cache_dir),
        )
        for n in (1, 4)
    )
    for left, right in zip(one.epochs, other.epochs, strict=True):
        assert right.train_error == pytest.approx(left.train_error)
        assert right.train_loss == pytest.approx(left.train_loss, rel=1e-5)


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedNet(TinyNet):
    """TinyNet that keeps what its batch normalisation sees in training."""

    seen: list[torch.Tensor] = field(default_factory=list, compare=False)

    def build(self, data: DataSpec) -> nn.Module:
        model = TinyNet.build(self, data)

        def keep(layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            if layer.training:
                self.seen.append(inputs[0].detach().clone())

        model[1].register_forward_pre_hook(keep)
        return model


def test_batch_normalisation_sees_ghost_batches(runtime):
    model = WatchedNet()
    interrupt(tiny.config(model=model, subdivision=2), runtime, 1)
    assert [len(part) for part in model.seen] == [4, 4]
    first, second = (part.mean((0, 2, 3)) for part in model.seen)
    assert not torch.allclose(first, second)
    found = checkpoint.load(runtime.checkpoint)["model"]["1.running_mean"]
    torch.testing.assert_close(found, 0.09 * first + 0.1 * second)


def test_both_copies_of_an_image_are_in_one_ghost_batch(runtime):
    model = WatchedNet()
    interrupt(tiny.config(model=model, subdivision=4, augmentation=(DualCutout(size=0),)), runtime, 1)
    assert [len(part) for part in model.seen] == [4, 4, 4, 4]
    for part in model.seen:
        assert torch.equal(part[0::2], part[1::2])
        assert not torch.equal(part[0], part[2])


def test_only_convolutions_decay_where_the_config_says_so(runtime):
    interrupt(tiny.config(no_weight_decay_on_bn=True, weight_decay=5e-4), runtime, 1)
    decayed, plain = checkpoint.load(runtime.checkpoint)["optimizer"]["param_groups"]
    assert (decayed["weight_decay"], len(decayed["params"])) == (5e-4, 1)
    assert (plain["weight_decay"], len(plain["params"])) == (0.0, 4)


def test_pure_fp16_keeps_nothing_in_more(runtime):
    interrupt(tiny.config(precision="pure_fp16"), runtime, 2)
    state = checkpoint.load(runtime.checkpoint)
    assert state["scaler"] == {}
    kept = [
        *state["model"].values(),
        *(v for of in state["optimizer"]["state"].values() for v in of.values()),
    ]
    assert {value.dtype for value in kept} == {torch.float16, torch.int64}  # int64: batches counted


# --- processes, ranks and compiled networks ----------------------------------------------------


@pytest.mark.parametrize(("device", "chosen"), [("cuda:1", ["cuda:1"]), ("cuda", []), ("cpu", [])])
def test_a_trial_runs_on_the_gpu_that_it_is_given(device, chosen, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.append(str(device)))
    for module, name in ((loop, "check_supported"), (loop.memory, "limit"), (loop.memory, "reset_peak")):
        monkeypatch.setattr(module, name, lambda *_: None)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    loop._reset_process(tiny.config(), Runtime(), torch.device(device))
    assert asked == chosen
    assert torch.backends.cudnn.benchmark == device.startswith("cuda")


class Rank(Group):
    """One rank of several, whose others see the same losses."""

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def first(self, answer: Callable[[], Any]) -> Any:
        return answer()

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        return values * self.size


def test_ranks_share_the_images_of_each_epoch(cache_dir, monkeypatch):
    """Here one after the other."""
    seen: dict[int, list[list[int]]] = {0: [], 1: []}

    @contextlib.contextmanager
    def start(size: int, device: str, follow: Callable[..., None], *arguments: Any) -> Iterator[Group]:
        yield Rank(0, size)
        follow(Rank(1, size), *arguments)

    def step(learner: Learner, pixels: Any, targets: Any, places: torch.Tensor, epoch: int) -> None:
        seen[learner.group.rank].append(places.tolist())
        learner.step += 1
        learner.totals += len(places)  # a loss of 1, and all wrong

    monkeypatch.setattr(parallel, "start", start)
    monkeypatch.setattr(Learner, "train_step", step)
    config = tiny.config(batch_size=4, num_gpus=2)
    result = train(config, seed=0, runtime=Runtime(cache_dir=cache_dir))
    assert [(epoch.train_loss, epoch.train_error) for epoch in result.epochs] == [(1.0, 1.0)] * 3
    for rank in (0, 1):
        orders = [order_of(config, 0, epoch).tolist() for epoch in range(3)]
        starts = range(4 * rank, 24, 8)
        assert seen[rank] == [order[start : start + 4] for order in orders for start in starts]


def test_each_rank_takes_its_own_part_of_a_checkpoint(cache_dir):
    config, runtime = tiny.config(batch_size=4, num_gpus=3), Runtime(cache_dir=cache_dir)
    runs = [Run(config, 0, runtime, Rank(rank, 3)) for rank in range(3)]
    state = runs[0].state_dict()
    others = [runs[0].learner.rank_state() | {"totals": torch.full((2,), float(rank))} for rank in (1, 2)]
    for run in runs:
        run.load_state_dict(state | {"others": others})
    assert [run.learner.totals.tolist() for run in runs] == [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]


@pytest.mark.parametrize(("compile", "pays"), [("on", True), ("auto", True), ("auto", False), ("off", False)])
def test_a_network_is_compiled_for_the_batches_that_it_will_see(compile, pays, cache_dir, monkeypatch):
    given, passes = [], []

    def network_to_train(model: nn.Module, images: torch.Tensor, *_: Any) -> nn.Module:
        given.append(tuple(images.shape))
        compiled = nn.Sequential(model)
        compiled.register_forward_pre_hook(lambda _, inputs: passes.append(tuple(inputs[0].shape)))
        return compiled if pays else model

    monkeypatch.setattr(compiling, "network_to_train", network_to_train)
    runtime = Runtime(cache_dir=cache_dir, compile=compile)
    result = train(tiny.config(subdivision=2), seed=0, runtime=runtime)
    assert given == ([] if compile == "off" else [(4, 2, 6, 6)])
    assert passes == [(4, 2, 6, 6)] * 2 * NUM_STEPS * pays
    assert result.compiled == pays


# --- the same numbers again --------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_seed_decides_everything(config, cache_dir):
    runtime = Runtime(cache_dir=cache_dir)
    first = figures(train(config, seed=0, runtime=runtime))
    torch.manual_seed(5)
    assert figures(train(config, seed=0, runtime=runtime)) == first
    assert figures(train(config, seed=1, runtime=runtime)) != first


def test_what_a_process_did_before_changes_nothing(cache_dir):
    """Digits in batches that torch would share out over threads."""
    config = TrainConfig(model=TinyNet(channels=16), epochs=1, batch_size=480)
    runtime = Runtime(cache_dir=cache_dir)
    code = f"""
import json, sys
from pathlib import Path
sys.path[:0] = {[str(TESTS.parent), str(TESTS)]!r}
from tiny import TinyNet, figures
from trainer import Runtime, TrainConfig, train
config = TrainConfig(model=TinyNet(channels=16), epochs=1, batch_size=480)
json.dump(figures(train(config, seed=3, runtime=Runtime(cache_dir=Path({str(cache_dir)!r})))), sys.stdout)
"""
    fresh = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    train(tiny.config(precision="mixed_bf16"), seed=0, runtime=dataclasses.replace(runtime, threads=4))
    torch.set_default_dtype(torch.float64)
    assert torch.get_num_threads() == 4
    assert figures(train(config, seed=3, runtime=runtime)) == json.loads(fresh.stdout)
    assert torch.get_num_threads() == 1


def test_random_streams_are_apart_and_stay_as_they_are():
    streams = [
        seeds.stream(seed, *names) for seed in (0, 1) for names in (("init",), ("order", 0), ("order", 1))
    ]
    assert len(set(streams)) == 6
    assert all(0 <= stream < 2**63 for stream in streams)
    assert seeds.stream(0, "init") == 1519069808562059438  # another number here means a new `trainer.VERSION`


# --- interruptions -----------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(NUM_STEPS))
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_interrupted_at_any_step_a_trial_ends_the_same(config, step, runtime):
    whole = train(config, seed=0, runtime=dataclasses.replace(runtime, checkpoint=None))
    before = interrupt(config, runtime, step)
    assert checkpoint.load(runtime.checkpoint)["step"] == step
    after: list[Epoch] = []
    resumed = train(config, seed=0, report=after.append, runtime=runtime)
    assert figures(resumed) == figures(whole)
    assert (resumed.resumes, resumed.notes) == (1, ())
    assert [epoch.epoch for epoch in before] == [1, 2, 3][: step // 3]
    assert [*before, *after] == list(resumed.epochs)  # each reported once


@pytest.mark.parametrize("config", (CONFIGS | MORE_CONFIGS).values(), ids=CONFIGS | MORE_CONFIGS)
def test_the_last_weights_are_the_same_too(config, runtime, tmp_path):
    """The checkpoint before the last step, with everything in it."""
    whole = dataclasses.replace(runtime, checkpoint=tmp_path / "whole.ckpt")
    interrupt(config, whole, NUM_STEPS - 1)
    interrupt(config, runtime, 4)
    interrupt(config, runtime, NUM_STEPS - 1 - 4)
    expected, found = checkpoint.load(whole.checkpoint), checkpoint.load(runtime.checkpoint)
    for kind in ("model", "average", "optimizer", "scaler"):
        assert leaves(found[kind]) == leaves(expected[kind])
    for kind in ("totals", "generator", "rng"):
        assert torch.equal(found[kind], expected[kind])


@pytest.mark.parametrize("config", MORE_CONFIGS.values(), ids=MORE_CONFIGS)
def test_whatever_is_trained_with_ends_the_same_when_interrupted(config, runtime):
    whole = train(config, seed=0, runtime=dataclasses.replace(runtime, checkpoint=None))
    interrupt(config, runtime, 4)
    resumed = train(config, seed=0, runtime=runtime)
    assert figures(resumed) == figures(whole)
    assert whole.status == "done" or config.precision == "pure_fp16"


def leaves(state: Any) -> Any:
    """Return a state dict with its tensors as bytes, to be compared with ==."""
    if isinstance(state, torch.Tensor):
        return (state.dtype, tuple(state.shape), state.contiguous().numpy().tobytes())
    if isinstance(state, dict):
        return {key: leaves(value) for key, value in state.items()}
    return [leaves(value) for value in state] if isinstance(state, list) else state


def test_interrupted_again_and_again(runtime):
    config = CONFIGS["augmented"]
    whole = train(config, seed=0, runtime=dataclasses.replace(runtime, checkpoint=None))
    for _ in range(NUM_STEPS - 1):
        interrupt(config, runtime, 1)  # one step each time
    resumed = train(config, seed=0, runtime=runtime)
    assert figures(resumed) == figures(whole)
    assert resumed.resumes == NUM_STEPS - 1


def test_a_checkpoint_at_every_step_changes_nothing(runtime, monkeypatch):
    config, saved = CONFIGS["augmented"], []
    save = checkpoint.save

    def watched(path: Path, state: dict[str, Any]) -> None:
        saved.append(state["step"])
        save(path, state)

    monkeypatch.setattr(checkpoint, "save", watched)
    eager = dataclasses.replace(runtime, checkpoint_seconds=0)
    result = train(config, seed=0, runtime=eager)
    assert saved == list(range(NUM_STEPS))
    assert figures(result) == figures(
        train(config, seed=0, runtime=dataclasses.replace(runtime, checkpoint=None))
    )


def test_a_finished_trial_asked_for_again_ends_the_same(runtime):
    eager = dataclasses.replace(runtime, checkpoint_seconds=0)
    first = train(tiny.config(), seed=0, runtime=eager)
    assert figures(train(tiny.config(), seed=0, runtime=eager)) == figures(first)


def test_the_time_before_an_interruption_counts(runtime):
    interrupt(tiny.config(), runtime, 2)
    before = checkpoint.load(runtime.checkpoint)["epoch_seconds"]
    assert before > 0
    assert train(tiny.config(), seed=0, runtime=runtime).epochs[0].train_seconds > before


def test_without_a_checkpoint_a_trial_can_still_be_stopped(runtime):
    nowhere = dataclasses.replace(runtime, checkpoint=None)
    interrupt(tiny.config(), nowhere, 4)
    assert train(tiny.config(), seed=0, runtime=nowhere).resumes == 0


# --- checkpoints that cannot be used -----------------------------------------------------------


def another_seed(runtime: Runtime) -> None:
    runtime.checkpoint.unlink()
    interrupt(tiny.config(), runtime, 4, seed=1)


def another_config(runtime: Runtime) -> None:
    runtime.checkpoint.unlink()
    interrupt(tiny.config(lr=0.2), runtime, 4)


def truncated(runtime: Runtime) -> None:
    content = runtime.checkpoint.read_bytes()
    runtime.checkpoint.write_bytes(content[: len(content) // 2])


def emptied(runtime: Runtime) -> None:
    runtime.checkpoint.write_bytes(b"")


def flipped(runtime: Runtime) -> None:
    content = bytearray(runtime.checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    runtime.checkpoint.write_bytes(content)


def incomplete(runtime: Runtime) -> None:
    state = checkpoint.load(runtime.checkpoint)
    del state["scaler"]
    checkpoint.save(runtime.checkpoint, state)


def misshapen(runtime: Runtime) -> None:
    state = checkpoint.load(runtime.checkpoint)
    state["model"]["5.weight"] = torch.zeros(2, 2)
    checkpoint.save(runtime.checkpoint, state)


def of_another_step(runtime: Runtime) -> None:
    state = checkpoint.load(runtime.checkpoint)
    checkpoint.save(runtime.checkpoint, state | {"step": 2})


def of_words(runtime: Runtime) -> None:
    state = checkpoint.load(runtime.checkpoint)
    state["history"][0]["train_seconds"] = "long"
    checkpoint.save(runtime.checkpoint, state)


def older_version(runtime: Runtime) -> None:
    state = checkpoint.load(runtime.checkpoint)
    state["trial"]["version"] -= 1
    checkpoint.save(runtime.checkpoint, state)


class Trap:
    """Raises when it is unpickled, where no test could miss it."""

    def __reduce__(self) -> Any:
        return sys.exit, ("the checkpoint was unpickled",)


def malicious(runtime: Runtime) -> None:
    checkpoint.save(runtime.checkpoint, checkpoint.load(runtime.checkpoint) | {"notes": [Trap()]})


@pytest.mark.parametrize(
    ("spoil", "note"),
    [
        (another_seed, "checkpoint is another trial's"),
        (another_config, "checkpoint is another trial's"),
        (older_version, "checkpoint is another trial's"),
        (truncated, "checkpoint trial.ckpt is damaged"),
        (emptied, "checkpoint trial.ckpt is damaged"),
        (flipped, "checkpoint trial.ckpt is damaged"),
        (malicious, "checkpoint trial.ckpt cannot be loaded safely"),
        (incomplete, "checkpoint does not fit: 'scaler'"),
        (misshapen, "checkpoint does not fit: Error(s) in loading state_dict"),
        (of_another_step, "checkpoint does not fit: it has 2 steps in epoch 2"),
        (of_words, "checkpoint does not fit: its epochs are no numbers"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_unusable_checkpoint_means_a_new_start(spoil, note, runtime):
    config = tiny.config()
    whole = train(config, seed=0, runtime=dataclasses.replace(runtime, checkpoint=None))
    interrupt(config, runtime, 5)
    spoil(runtime)
    reported: list[Epoch] = []
    result = train(config, seed=0, report=reported.append, runtime=runtime)
    assert figures(result) == figures(whole)
    assert list(result.epochs) == reported
    assert result.resumes == 0
    assert len(result.notes) == 1
    assert result.notes[0].startswith(f"started again: {note}")


def test_what_is_wrong_with_the_device_is_no_fault_of_the_checkpoint(runtime, monkeypatch):
    def full(self: Any, state: dict[str, Any]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    interrupt(tiny.config(), runtime, 5)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "load_state_dict", full)
        with pytest.raises(torch.OutOfMemoryError):
            train(tiny.config(), seed=0, runtime=runtime)
    result = train(tiny.config(), seed=0, runtime=runtime)
    assert (result.resumes, result.notes) == (1, ())


def test_a_run_that_begins_again_is_the_only_one_in_memory(runtime, monkeypatch):
    interrupt(tiny.config(), runtime, 5)
    misshapen(runtime)
    alive: list[int] = []
    reset = loop._reset_process

    def counted(*arguments: Any) -> None:
        gc.collect()
        alive.append(sum(type(thing) is Run for thing in gc.get_objects()))
        reset(*arguments)

    monkeypatch.setattr(loop, "_reset_process", counted)
    assert train(tiny.config(), seed=0, runtime=runtime).resumes == 0
    assert alive == [1, 1]


def test_the_note_outlives_another_interruption(runtime):
    interrupt(tiny.config(), runtime, 5)
    truncated(runtime)
    interrupt(tiny.config(), runtime, 5)
    result = train(tiny.config(), seed=0, runtime=runtime)
    assert result.resumes == 1
    assert result.notes == ("started again: checkpoint trial.ckpt is damaged",)


# --- testing less often ------------------------------------------------------------------------


def test_testing_less_often_changes_nothing_else(cache_dir):
    runtime = Runtime(cache_dir=cache_dir)
    always = train(tiny.config(epochs=5), seed=0, runtime=runtime)
    seldom = train(tiny.config(epochs=5, eval_every=2), seed=0, runtime=runtime)
    assert [epoch.test_error is not None for epoch in seldom.epochs] == [False, True, False, True, True]
    for often, rare in zip(always.epochs, seldom.epochs, strict=True):
        assert rare.train_loss == often.train_loss
        assert (rare.test_loss, rare.test_error) in ((None, None), (often.test_loss, often.test_error))


def test_the_last_epoch_is_tested_however_seldom(cache_dir):
    result = train(tiny.config(eval_every=1000), seed=0, runtime=Runtime(cache_dir=cache_dir))
    assert [epoch.test_error is None for epoch in result.epochs] == [True, True, False]
    assert result.status == "done"
    assert result.best is result.epochs[-1]


def test_a_loss_that_is_not_finite_ends_a_trial_between_two_tests(cache_dir):
    config = tiny.config(lr=1e38, schedule=Constant(), epochs=50, eval_every=50)
    result = train(config, seed=0, runtime=Runtime(cache_dir=cache_dir))
    assert result.status == "diverged"
    assert len(result.epochs) < 50


# --- divergence --------------------------------------------------------------------------------


def test_what_fp16_cannot_hold_ends_the_trial_too(cache_dir):
    config = tiny.config(lr=1e3, precision="pure_fp16", schedule=Constant())
    result = train(config, seed=0, runtime=Runtime(cache_dir=cache_dir))
    assert result.status == "diverged"
    assert (result.epochs[-1].test_loss, result.epochs[-1].test_error) == (None, None)


@pytest.mark.parametrize("precision", ["fp32", "mixed_bf16", "mixed_fp16"])
@pytest.mark.parametrize("lr", [1e10, 1e38])
def test_a_loss_that_is_not_finite_ends_the_trial(precision, lr, cache_dir):
    reported: list[Epoch] = []
    config = tiny.config(lr=lr, precision=precision, schedule=Constant())
    result = train(config, seed=0, report=reported.append, runtime=Runtime(cache_dir=cache_dir))
    assert result.status == "diverged"
    assert list(result.epochs) == reported
    *before, last = reported
    assert (last.test_loss, last.test_error) == (None, None)
    assert (last.train_loss is None) == (last.train_error is None)
    assert last.train_loss is None or lr < 1e38  # at 1e38 the very next loss overflows
    assert all(epoch.train_loss is not None and epoch.test_loss is not None for epoch in before)
    json.dumps(figures(result), allow_nan=False)


def test_a_test_loss_that_is_not_finite_ends_it_where_the_training_loss_is(cache_dir, monkeypatch):
    monkeypatch.setattr(Run, "test", lambda run: (math.inf if run.learner.step > 3 else 1.0, 0.5, None))
    result = train(tiny.config(), seed=0, runtime=Runtime(cache_dir=cache_dir))
    assert (result.status, len(result.epochs)) == ("diverged", 2)
    last = result.epochs[-1]
    assert (last.test_loss, last.test_error) == (None, None)
    assert last.train_loss is not None


def test_a_diverged_epoch_is_never_the_best():
    def epoch(number: int, test_error: float | None) -> Epoch:
        return Epoch(epoch=number, lr=0.1, train_loss=1.0, train_error=0.5, test_loss=None,
                     test_error=test_error, train_seconds=2.0)  # fmt: skip

    def result(*epochs: Epoch) -> Result:
        return Result(status="diverged", epochs=epochs, num_params=1, num_images=120,
                      time_to_train_seconds=1.0, peak_memory_mib=None, resumes=0)  # fmt: skip

    several = result(epoch(1, 0.5), epoch(2, 0.25), epoch(3, 0.25), epoch(4, None))
    assert several.best.epoch == 2
    assert several.train_seconds == 8.0
    assert several.images_per_second == 15.0
    assert not several.compiled
    assert result(epoch(1, None)).best is None
    assert result(epoch(1, 0.1), epoch(2, 0.0), epoch(3, 0.05)).best.epoch == 2


# --- on a GPU ----------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "mixed_bf16", "mixed_fp16", "pure_fp16"])
def test_gpu_learns_digits_in_every_precision(precision, device, cache_dir):
    config = TrainConfig(model=TinyNet(), epochs=3, batch_size=103, init="fan_in", precision=precision)
    result = train(config, seed=0, runtime=Runtime(cache_dir=cache_dir, device=device))
    assert result.status == "done"
    assert result.epochs[-1].test_error < 0.1
    assert result.peak_memory_mib > 0


@pytest.mark.gpu
@pytest.mark.parametrize("step", [0, 4, 6, 8])
@pytest.mark.parametrize("precision", ["fp32", "mixed_fp16"])
def test_gpu_resumes_where_it_stopped(precision, step, runtime):
    """cuDNN may add up in another order, so the numbers agree but for rounding."""
    config = tiny.config(precision=precision, augmentation=AUGMENTED, model=TinyNet(dropout=0.5))
    on_gpu = dataclasses.replace(runtime, device="cuda")
    whole = train(config, seed=0, runtime=dataclasses.replace(on_gpu, checkpoint=None))
    interrupt(config, on_gpu, step)
    state = checkpoint.load(on_gpu.checkpoint)
    assert state["step"] == step
    assert state["cuda_rng"] is not None
    assert bool(state["scaler"]) == (precision == "mixed_fp16")
    resumed = train(config, seed=0, runtime=on_gpu)
    assert (resumed.resumes, resumed.notes) == (1, ())
    for found, expected in zip(resumed.epochs, whole.epochs, strict=True):
        assert found.lr == expected.lr
        assert found.train_loss == pytest.approx(expected.train_loss, rel=0.05)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # is a prototype, it says
@pytest.mark.parametrize("config", MORE_CONFIGS.values(), ids=MORE_CONFIGS)
def test_gpu_no_step_waits_for_the_device(config, runtime, monkeypatch):
    """But for the gradient scaler, which asks whether a gradient overflowed."""
    config = dataclasses.replace(
        config, precision="fp32" if config.precision == "mixed_fp16" else config.precision
    )
    step = Learner.train_step

    def watched(self: Any, *arguments: Any) -> None:
        torch.cuda.set_sync_debug_mode("error")
        try:
            step(self, *arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Learner, "train_step", watched)
    result = train(config, seed=0, runtime=dataclasses.replace(runtime, device="cuda", checkpoint=None))
    assert result.status == "done" or config.precision == "pure_fp16"


@pytest.mark.gpu
def test_gpu_a_move_from_the_cpu_is_noted(runtime):
    config = tiny.config(augmentation=AUGMENTED)
    interrupt(config, runtime, 4)
    result = train(config, seed=0, runtime=dataclasses.replace(runtime, device="cuda"))
    assert result.status == "done"
    assert result.notes == (f"moved from cpu to {torch.cuda.get_device_name()} at step 4",)


def test_a_move_to_other_hardware_is_noted(runtime, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_hardware", lambda device: "Tesla V100")
        interrupt(tiny.config(), runtime, 4)
    result = train(tiny.config(), seed=0, runtime=runtime)
    assert (result.status, result.notes) == ("done", ("moved from Tesla V100 to cpu at step 4",))


def test_a_checkpoint_that_cannot_be_saved_ends_no_trial(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    whole = tiny.figures(train(tiny.config(), seed=0, runtime=Runtime(cache_dir=cache_dir)))
    monkeypatch.setattr(checkpoint, "save", full)
    runtime = Runtime(cache_dir=cache_dir, checkpoint=tmp_path / "c.pt", checkpoint_seconds=0)
    result = train(tiny.config(), seed=0, runtime=runtime)
    assert tiny.figures(result) == whole
    assert result.notes == ("a checkpoint could not be saved: No space left on device",)


def test_directories_come_from_arguments_and_not_from_variables_of_gridrun(tmp_path, monkeypatch):
    for name in ("GRIDRUN_DATA", "GRIDRUN_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert (Runtime().data_dir, Runtime().cache_dir) == (Path("data").absolute(), tmp_path / "gridrun")
