"""Selections: which images a proxy keeps, when it learns, and that it may run beside the network."""

from __future__ import annotations

import copy
import dataclasses
import io
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer import ConfigError, TrainConfig, seeds
from trainer.config import Precision
from trainer.datasets import DataSpec
from trainer.loss import Batch, mixed, plain
from trainer.models import ModelOptions
from trainer.models._layers import initialise
from trainer.optimizers.muon import MuonOptions
from trainer.optimizers.sgd import SGD
from trainer.parameter_groups.bn_bias import BNBias
from trainer.schedules.linear import Linear
from trainer.selections.proxy import ProxyOptions
from trainer.selections.proxy.selector import Selector
from trainer.warmups.linear import Linear as Warmup

CPU = torch.device("cpu")
PROXY = ProxyOptions(model=tiny.TinyNet(channels=4))


@dataclass(frozen=True, kw_only=True, slots=True)
class Points(tiny.TinyImages):
    """Images of one pixel with three channels, one for each class."""

    spec: ClassVar[DataSpec] = dataclasses.replace(
        tiny.TinyImages.spec, channels=3, image_size=1, mean=(0.5,) * 3, std=(0.5,) * 3
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pixels(ModelOptions):
    """Logits are the channels, times a factor that is 1 at first."""

    name: ClassVar[str] = "pixels"
    kind: ClassVar[str] = "model"
    own_init: ClassVar[bool] = True

    @property
    def label(self) -> str:
        return "pixels"

    def build(self, data: DataSpec) -> nn.Module:
        class Network(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.factor = nn.Parameter(torch.ones(()))

            def forward(self, x: Tensor) -> Tensor:
                return x.flatten(1) * self.factor

            def initialise(self) -> None:
                """Leave the factor as it is."""

        return Network()


def begin(options: ProxyOptions = PROXY, seed: int = 0, **config: Any) -> Selector:
    return Selector(options, tiny.config(select_examples=options, **config), seed, CPU)


def pixels(*first_logits: float, agreement: float | None = None) -> Batch:
    """Return images of class 0 whose first logit is given and whose others are 0."""
    images = torch.zeros(len(first_logits), 3, 1, 1)
    images[:, 0, 0, 0] = torch.tensor(first_logits)
    labels = torch.zeros(len(first_logits), dtype=torch.int64)
    return plain(images, labels)._replace(agreement=agreement)


def kept(batch: Batch, **config: Any) -> list[float]:
    """Return the first logits of the images that are kept."""
    options = ProxyOptions(model=Pixels(), keep=config.pop("keep", 0.5))
    proxy = begin(options, dataset=Points(), model=Pixels(), batch_size=2, lr=1e-9, **config)
    return proxy.select(batch).images[:, 0, 0, 0].tolist()


def batches(number: int, size: int = 8) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(number, size, 2, 6, 6, generator=generator)
    labels = torch.randint(0, 3, (number, size), generator=generator)
    return [
        plain(x.contiguous(memory_format=torch.channels_last), y) for x, y in zip(images, labels, strict=True)
    ]


# --- what is kept ------------------------------------------------------------------------------


def test_the_images_with_the_highest_loss_are_kept_in_their_order():
    """The loss of class 0 falls with its logit."""
    batch = pixels(3.0, -1.0, 0.5, 2.0, -2.0, 1.0)
    assert kept(batch) == [-1.0, 0.5, -2.0]
    assert kept(batch, keep=0.34) == [-1.0, -2.0]
    assert kept(batch, keep=0.01) == [-2.0]
    assert kept(batch, keep=1.0) == [3.0, -1.0, 0.5, 2.0, -2.0, 1.0]


def test_label_smoothing_counts():
    """With a fifth spread over 3 classes, logit 20 has a loss of 20 - 0.8 x 20 - 0.2 / 3 x 20 = 2.67."""
    batch = pixels(0.0, 20.0, 1.0, -1.0)  # of the others, -1 has the highest: 1.73
    assert kept(batch, keep=0.25, label_smoothing=0.2) == [20.0]
    assert kept(batch, keep=0.25) == [-1.0]


def test_two_copies_of_an_image_stay_together():
    """The mean losses of the pairs are 0.98, 0.82, 1.43 and 0.55."""
    batch = pixels(3.0, -1.0, 0.5, 0.4, -2.0, 3.0, 1.0, 1.0, agreement=0.1)
    assert kept(batch) == [3.0, -1.0, -2.0, 3.0]


def test_labels_and_shares_go_with_their_images():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 2, 6, 6, generator=generator)
    labels = torch.stack([torch.arange(8) % 3, torch.arange(8) // 3])
    batch = mixed(images, labels, torch.tensor([0.7, 0.3]))
    proxy = begin()
    found = proxy.select(batch)
    places = [next(i for i in range(8) if torch.equal(images[i], image)) for image in found.images]
    assert places == sorted(places)
    assert len(places) == 4
    assert torch.equal(found.labels, labels[:, places])
    assert torch.equal(found.weights, batch.weights[:, places])


# --- how the proxy learns ----------------------------------------------------------------------


def test_the_proxy_is_trained_as_by_hand():
    """Its steps are those of torch's SGD on the images kept of batches 0, 3, 6, with the rates of these."""
    options = dataclasses.replace(PROXY, keep=0.25, update_every=3)
    config: dict[str, Any] = {
        "lr": 0.3,
        "weight_decay": 0.01,
        "label_smoothing": 0.1,
        "schedule": Linear(min_factor=0.1),
        "warmup": Warmup(epochs=1),
        "parameter_groups": (BNBias(lr=0.5, weight_decay=0.0, epochs=1.5),),  # 5 of 9 steps
    }
    proxy = begin(options, **config)
    run = tiny.config(select_examples=options, **config)
    model = copy.deepcopy(proxy.model)
    bias = [model.get_parameter("1.bias")]
    others = [p for name, p in model.named_parameters() if name != "1.bias"]
    decays = [{"params": others, "weight_decay": 0.01}, {"params": bias, "weight_decay": 0.0}]
    sgd = torch.optim.SGD(decays, lr=1.0, momentum=0.9, nesterov=True)
    for step, batch in enumerate(batches(9)):
        logits = model(batch.images)
        losses = F.cross_entropy(logits, batch.labels[0], label_smoothing=0.1, reduction="none")
        places = sorted(sorted(range(8), key=lambda place: losses[place].item())[-2:])
        if step % 3 == 0:
            sgd.param_groups[0]["lr"] = run.lr_at(step)
            sgd.param_groups[1]["lr"] = run.lr_at(step) / 0.3 * 0.5 if step < 5 else 0.0
            sgd.zero_grad()
            losses[places].mean().backward()
            sgd.step()
        assert torch.equal(proxy.select(batch).images, batch.images[places])
        for name, value in proxy.model.state_dict().items():
            torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_a_frozen_group_stands_still_though_its_velocity_holds_the_rate():
    options = ProxyOptions(model=tiny.TinyNet(channels=4), update_every=1)
    groups = (BNBias(epochs=1),)  # 3 of 9 steps
    proxy = begin(options, optimizer=SGD(lr_in_velocity=True), parameter_groups=groups)
    bias, seen = proxy.model.get_parameter("1.bias"), []
    for batch in batches(5):
        proxy.select(batch)
        seen.append(bias.tolist())
    assert seen[1] != seen[0]
    assert seen[2] == seen[3] == seen[4]


def test_it_learns_at_every_fourth_batch_and_looks_at_all():
    proxy = begin()
    learnt, looked = [], []
    for step, batch in enumerate(batches(9)):
        before = copy.deepcopy(proxy.model.state_dict())
        proxy.select(batch)
        after = proxy.model.state_dict()
        learnt += [step] * (not torch.equal(before["0.weight"], after["0.weight"]))
        looked += [step] * (not torch.equal(before["1.running_mean"], after["1.running_mean"]))
    assert learnt == [0, 4, 8]
    assert looked == list(range(9))


def test_muon_is_told_of_its_own_steps():
    """Of 9 batches the proxy learns from 3: so long is the run of its optimiser."""
    proxy = begin(optimizer=MuonOptions())
    assert {group["total_steps"] for group in proxy.optimizer.param_groups} == {3}
    for batch in batches(9):
        proxy.select(batch)
    assert {group["step"] for group in proxy.optimizer.param_groups} == {3}


def test_beside_the_network_it_keeps_what_it_would_keep_alone():
    """First all batches through the proxy, then the network; or in turn: the weights are the same."""

    def network() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(5)
        model = tiny.TinyNet().build(tiny.TinyImages.spec)
        return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def learn(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(batch.images), batch.labels[0]).backward()
        optimizer.step()

    proxy = begin()
    masks = [proxy.select(batch) for batch in batches(9)]
    alone, optimizer = network()
    for batch in masks:
        learn(alone, optimizer, batch)
    proxy, (beside, optimizer) = begin(), network()
    for batch in batches(9):
        learn(beside, optimizer, proxy.select(batch))
    for name, value in alone.state_dict().items():
        assert torch.equal(value, beside.state_dict()[name])


# --- its network -------------------------------------------------------------------------------


def test_its_weights_have_a_stream_of_their_own():
    def weights(proxy: Selector) -> Tensor:
        return proxy.model.state_dict()["0.weight"]

    assert torch.equal(weights(begin(seed=1)), weights(begin(seed=1)))
    assert not torch.equal(weights(begin(seed=1)), weights(begin(seed=2)))
    torch.manual_seed(seeds.stream(1, "init"))
    main = PROXY.model.build(tiny.TinyImages.spec)
    initialise(main, "fan_out")
    assert not torch.equal(weights(begin(seed=1)), main.state_dict()["0.weight"])


def test_its_whitening_bias_is_frozen():
    small = {"name": "airbench", "widths": [4, 4, 4], "whitening_images": 6, "whitening_bias": "uniform"}
    config = TrainConfig.from_dict(
        {
            "model": {"name": "airbench"},
            "dataset": "cifar10",
            "epochs": 1,
            "parameter_groups": {"whitening_bias": {"epochs": 0.1}, "bn_bias": {"lr": 6.4}},
            "select_examples": {"name": "proxy", "model": small, "update_every": 1},
        }
    )
    assert config.select_examples
    selection = config.select_examples.build(config, 0, CPU)
    network: Any = selection.model
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network.prepare(images)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert before["whitening.bias"].any()
    selection.select(plain(images, torch.arange(6)))
    changed = {name for name, value in network.state_dict().items() if not torch.equal(before[name], value)}
    assert not {name for name in changed if name.startswith("whitening")}
    assert {"head.weight", "groups.0.first.0.weight", "groups.0.first.2.bias"} <= changed


@pytest.mark.parametrize("precision", ["fp32", "mixed_bf16", "mixed_fp16", "pure_fp16"])
def test_it_computes_in_the_precision_of_the_run(precision: Precision):
    proxy = begin(precision=precision)
    for batch in batches(5):
        chosen = proxy.select(batch)
        assert chosen.images.dtype == torch.float32
        assert chosen.images.is_contiguous(memory_format=torch.channels_last)
    expected = torch.float16 if precision == "pure_fp16" else torch.float32
    assert {p.dtype for p in proxy.model.parameters()} == {expected}
    assert all(value.isfinite().all() for value in proxy.model.state_dict().values())


def test_gradients_are_clipped_as_the_networks_are():
    proxy = begin(gradient_clip=1e-3, lr=1.0, weight_decay=0.0, optimizer=SGD(momentum=0.0, nesterov=False))
    before = [p.detach().clone() for p in proxy.model.parameters()]
    proxy.select(batches(1)[0])
    moved = [(p - start).norm() for p, start in zip(proxy.model.parameters(), before, strict=True)]
    assert torch.stack(moved).norm().item() == pytest.approx(proxy.config.lr_at(0) * 1e-3, rel=1e-2)


@pytest.mark.parametrize("at", [0, 1, 5])
def test_a_resumed_selection_goes_on_as_it_would_have(at):
    whole, seen = begin(), batches(9)
    for step, batch in enumerate(seen):
        if step == at:
            file = io.BytesIO()
            torch.save(whole.state_dict(), file)
        whole.select(batch)
    resumed = begin(seed=7)
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for batch in seen[at:]:
        resumed.select(batch)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])


# --- options -----------------------------------------------------------------------------------

CONFIG: dict[str, Any] = {
    "model": {"name": "resnet", "depth": 20},
    "dataset": "cifar10",
    "epochs": 1,
    "select_examples": {"name": "proxy", "model": {"name": "resnet", "depth": 8}},
}


def test_a_config_with_a_selection_is_written_and_read():
    config = TrainConfig.from_dict(CONFIG)
    assert config.canonical()["select_examples"] == CONFIG["select_examples"]
    assert TrainConfig.from_dict(config.canonical()) == config
    flat = config.flat()
    assert flat["select_examples"] == "proxy"
    assert (flat["select_examples.model"], flat["select_examples.model.depth"]) == ("resnet", 8)
    assert (flat["select_examples.keep"], flat["select_examples.update_every"]) == (0.5, 4)
    assert "select_examples" not in tiny.config().canonical()
    assert (config.num_kept, tiny.config().num_kept) == (64, 8)


def test_a_selection_goes_with_what_only_the_network_has():
    """An initialisation, a group of parameters, an average."""
    selection = {"name": "proxy", "model": {"name": "airbench", "widths": [4, 4, 4]}}
    TrainConfig.from_dict(CONFIG | {"init": "fan_in", "ema_decay": 0.9, "select_examples": selection})
    airbench = {"name": "airbench"}
    groups = {"parameter_groups": {"whitening_bias": {"epochs": 0.5}}}
    TrainConfig.from_dict(CONFIG | {"model": airbench} | groups)


@pytest.mark.parametrize(
    ("selection", "others", "message"),
    [
        ({"keep": 0}, {}, "select_examples.keep: must be > 0 and <= 1, got 0"),
        ({"keep": 1.5}, {}, "select_examples.keep: must be > 0 and <= 1, got 1.5"),
        ({"update_every": 0}, {}, "select_examples.update_every: must be > 0, got 0"),
        ({}, {"num_gpus": 2}, "select_examples: needs num_gpus 1, got 2"),
        (
            {},
            {"subdivision": 128},
            "subdivision: must divide the images kept of a batch (64), got 128",
        ),
        ({"model": {"name": "vgg"}}, {"dataset": "mnist"}, "select_examples.model"),
    ],
)
def test_a_selection_that_cannot_work_is_refused(selection, others, message):
    values = CONFIG | {"select_examples": CONFIG["select_examples"] | selection} | others
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_dict(values)
    assert str(caught.value).startswith(message)
