"""Optimisers: steps by hand in plain numbers, against torch's own, and resumed in the middle."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trainer import TrainConfig
from trainer.datasets import datasets
from trainer.models import ModelOptions, models
from trainer.optimizers import OptimizerOptions, optimizers
from trainer.optimizers._groups import Group, parameter_groups
from trainer.optimizers.adabound import AdaBoundOptions, AdaBoundWOptions
from trainer.optimizers.adabound.optimizer import bounds
from trainer.optimizers.adadelta import Adadelta
from trainer.optimizers.adagrad import Adagrad
from trainer.optimizers.adam import Adam, AMSGrad
from trainer.optimizers.lars import LARSOptions
from trainer.optimizers.rmsprop import RMSprop
from trainer.optimizers.sgd import SGD
from trainer.schema import ConfigError, read

Vector = list[float]
DTYPE = torch.float64


def steps(
    options: OptimizerOptions, start: Vector, grads: list[Vector], lrs: Vector, weight_decay: float = 0.0
) -> Iterator[Vector]:
    """Yield the values of one parameter, `start` at first, after a step with each gradient and rate.

    The first of the rates is the peak.
    """
    parameter = nn.Parameter(torch.tensor(start, dtype=DTYPE))
    optimizer = options.build([{"params": [parameter], "weight_decay": weight_decay}], lrs[0], len(lrs))
    for grad, lr in zip(grads, lrs, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        parameter.grad = torch.tensor(grad, dtype=DTYPE)
        optimizer.step()
        yield parameter.tolist()


def norm(values: Vector) -> float:
    return math.sqrt(sum(value * value for value in values))


# --- SGD ---------------------------------------------------------------------------------------


def test_the_first_steps_with_the_rate_in_the_velocity_in_numbers():
    """The momentum of a step keeps the rate of that step; torch's takes the current one."""
    grads, lrs = [[1.0], [0.0], [-1.0]], [0.1, 0.2, 0.05]
    page = steps(SGD(momentum=0.5, lr_in_velocity=True), [2.0], grads, lrs)
    assert next(page) == pytest.approx([2.0 - 0.1 - 0.5 * 0.1])  # v = -0.1
    assert next(page) == pytest.approx([1.85 - 0.5 * 0.05])  # v = -0.05
    assert next(page) == pytest.approx([1.825 + 0.05 + 0.5 * 0.025])  # v = -0.025 + 0.05
    torchs = steps(SGD(momentum=0.5), [2.0], grads, lrs)
    assert next(torchs) == pytest.approx([1.85])
    assert next(torchs) == pytest.approx([1.85 - 0.2 * 0.5 * 0.5])


def test_the_rate_in_the_velocity_by_hand():
    grads, lrs = [[0.6, 0.8], [-2.0, 0.5], [0.1, 0.1]], [0.02, 0.3, 0.005]
    found = steps(SGD(lr_in_velocity=True), [3.0, -4.0], grads, lrs, weight_decay=0.1)
    w, v = [3.0, -4.0], [0.0, 0.0]
    for g, lr in zip(grads, lrs, strict=True):
        d = [-lr * (gi + 0.1 * wi) for gi, wi in zip(g, w, strict=True)]
        v = [0.9 * vi + di for vi, di in zip(v, d, strict=True)]
        w = [wi + di + 0.9 * vi for wi, di, vi in zip(w, d, v, strict=True)]
        assert next(found) == pytest.approx(w, rel=1e-12)


def test_with_a_constant_rate_both_conventions_agree():
    grads = [[0.6, 0.8], [-2.0, 0.5], [0.1, 0.1]]
    ours, torchs = (
        list(steps(SGD(lr_in_velocity=flag), [3.0, -4.0], grads, [0.1] * 3, weight_decay=0.1))
        for flag in (True, False)
    )
    for one, other in zip(ours, torchs, strict=True):
        assert one == pytest.approx(other, rel=1e-12)


def test_the_rate_in_the_velocity_needs_nesterov():
    with pytest.raises(ConfigError, match="lr_in_velocity: needs nesterov"):
        SGD(nesterov=False, lr_in_velocity=True)


@pytest.mark.parametrize("num_steps", [1, 5])
@pytest.mark.parametrize("options", [SGD(), SGD(lr_in_velocity=True), SGD(nesterov=False)], ids=str)
def test_a_summed_loss_is_a_mean_one_with_other_numbers(options, num_steps):
    """Its rate is divided by the size of the batch, and its decay is multiplied by it."""
    torch.manual_seed(0)
    x, y = torch.randn(num_steps, 12, 5), torch.randint(0, 3, (num_steps, 12))
    start = torch.randn(5, 3)
    ends = []
    for reduction, size in (("mean", 1), ("sum", 12)):
        w = nn.Parameter(start.clone())
        optimizer = options.build([{"params": [w], "weight_decay": 0.01 * size}], 0.4 / size, num_steps)
        for at in range(num_steps):
            optimizer.param_groups[0]["lr"] = 0.4 / size * (1 - at / num_steps)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(x[at] @ w, y[at], reduction=reduction).backward()
            optimizer.step()
        ends.append(w.detach())
    assert (ends[0] - start).abs().max() > 0.05
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


# --- LARS --------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(
    "start", [[3.0, -4.0], [0.008, 0.0], [0.0, 0.0]], ids=["large", "below the threshold", "zero"]
)
def test_lars_by_hand(start, weight_decay):
    grads, lrs = [[0.6, 0.8], [-2.0, 0.5], [0.1, 0.1]], [0.02, 0.01, 0.005]
    found = steps(LARSOptions(), start, grads, lrs, weight_decay)
    w, v = list(start), [0.0, 0.0]
    for g, lr in zip(grads, lrs, strict=True):
        local = norm(w) / (norm(g) + weight_decay * norm(w) + 1e-9) if norm(w) >= 0.01 else 1.0
        v = [0.9 * vi + lr * local * (gi + weight_decay * wi) for vi, gi, wi in zip(v, g, w, strict=True)]
        w = [wi - vi for wi, vi in zip(w, v, strict=True)]
        assert next(found) == pytest.approx(w, rel=1e-12)


def test_the_first_step_of_lars_in_numbers():
    """A step as long as lr x |w|; one of plain gradient descent where |w| is small."""
    options = LARSOptions()
    assert next(steps(options, [3.0, -4.0], [[0.6, 0.8]], [0.02])) == pytest.approx([2.94, -4.08])
    assert next(steps(options, [0.008, 0.0], [[0.6, 0.8]], [0.02])) == pytest.approx([-0.004, -0.016])
    decayed = next(steps(options, [3.0, -4.0], [[0.0, 0.0]], [0.02], weight_decay=5e-4))
    assert decayed == pytest.approx([2.94, -3.92])  # 1 / weight_decay x weight_decay: wholly the rate's


def test_the_threshold_of_lars_belongs_to_the_local_rate():
    options = LARSOptions(threshold=0.5, momentum=0.0)
    assert next(steps(options, [0.5], [[4.0]], [0.1])) == pytest.approx([0.45])
    assert next(steps(options, [0.4999], [[4.0]], [0.1])) == pytest.approx([0.0999])


# --- Adam and AMSGrad --------------------------------------------------------------------------

GRADS = [[4.0], [0.01], [-0.3]]  # one large, after which AMSGrad differs
LRS = [0.1, 0.05, 0.02]


@pytest.mark.parametrize(("options", "keeps_maximum"), [(Adam(), False), (AMSGrad(), True)])
def test_adam_by_hand(options, keeps_maximum):
    found = steps(options, [2.0], GRADS, LRS, weight_decay=0.1)
    w, m, v, largest = 2.0, 0.0, 0.0, 0.0
    for t, ((g,), lr) in enumerate(zip(GRADS, LRS, strict=True), start=1):
        g += 0.1 * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        largest = max(v, largest) if keeps_maximum else v
        w -= lr * m / (1 - 0.9**t) / (math.sqrt(largest / (1 - 0.999**t)) + 1e-8)
        assert next(found) == pytest.approx([w], rel=1e-12)


def test_amsgrad_is_adam_with_a_memory():
    grads, lrs = [[4.0], *[[0.0]] * 40], [0.1] * 41
    *_, adam = steps(Adam(betas=(0.9, 0.9)), [2.0], grads, lrs)
    *_, amsgrad = steps(AMSGrad(betas=(0.9, 0.9)), [2.0], grads, lrs)
    assert amsgrad[0] > adam[0] + 0.01


# --- AdaBound ----------------------------------------------------------------------------------


def test_the_bounds_close_in():
    assert bounds(1, 0.1, 1e-3) == pytest.approx((0.1 / 1001, 100.1))
    assert bounds(10, 0.1, 1e-3) == pytest.approx((0.1 / 101, 10.1))
    assert bounds(1000, 0.1, 1e-3) == pytest.approx((0.05, 0.2))
    assert bounds(10**9, 0.1, 1e-3) == pytest.approx((0.1, 0.1), rel=1e-5)


@pytest.mark.parametrize("size", [1e6, 1e-6, 1.0], ids=["lower", "upper", "either, later"])
@pytest.mark.parametrize("decoupled", [False, True])
def test_adabound_by_hand(size, decoupled):
    """Large gradients meet the lower bound, small ones the upper."""
    grads = [[size * (1 + 0.5 * math.sin(t))] for t in range(1000)]
    lrs = [0.01 if t < 500 else 0.001 for t in range(1000)]
    options = AdaBoundWOptions() if decoupled else AdaBoundOptions()
    found = steps(options, [2.0], grads, lrs, weight_decay=1e-3)
    w, m, v, at_bound = 2.0, 0.0, 0.0, set()
    for t, ((g,), lr) in enumerate(zip(grads, lrs, strict=True), start=1):
        factor = lr / 0.01
        if not decoupled:
            g += 1e-3 * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        lower, upper = bounds(t, 0.1 * factor, 1e-3)
        unbounded = lr * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) / (math.sqrt(v) + 1e-8)
        if t in (1, 10, 1000):
            at_bound |= {"lower"} if unbounded < lower else {"upper"} if unbounded > upper else set()
        w = (w * (1 - 1e-3 * factor) if decoupled else w) - min(max(unbounded, lower), upper) * m
        assert next(found) == pytest.approx([w], rel=1e-9)
    assert at_bound == {1e6: {"lower"}, 1e-6: {"upper"}, 1.0: {"lower"}}[size]


vectors = st.lists(st.floats(0.01, 10) | st.floats(-10, -0.01), min_size=2, max_size=2)


def test_a_group_s_bounds_go_with_its_own_rate():
    """A group of ten times the rate takes steps ten times as long, as long as no bound is reached."""
    slow, fast = (nn.Parameter(torch.tensor([1.0], dtype=DTYPE)) for _ in range(2))
    groups = [{"params": [p], "lr": lr, "weight_decay": 0.0} for p, lr in ((slow, 0.001), (fast, 0.01))]
    optimizer = AdaBoundWOptions(gamma=1e-9, final_lr=0.1).build(groups, 0.001, 10)
    alone = AdaBoundWOptions(gamma=1e-9, final_lr=0.1)
    (expected,) = steps(alone, [1.0], [[0.5]], [0.01])
    slow.grad = fast.grad = torch.tensor([0.5], dtype=DTYPE)
    optimizer.step()
    assert fast.tolist() == pytest.approx(expected, rel=1e-12)
    assert 1 - fast.item() == pytest.approx(10 * (1 - slow.item()), rel=1e-6)


@given(start=vectors, grads=st.lists(vectors, min_size=1, max_size=5), weight_decay=st.floats(0, 0.1))
def test_far_from_its_bounds_adabound_is_adam(start, grads, weight_decay):
    wide: dict[str, Any] = {"gamma": 1e-12, "eps": 1e-15}
    lrs = [0.01, 0.005, 0.002, 0.001, 0.0005][: len(grads)]
    adam = steps(Adam(eps=1e-15), start, grads, lrs, weight_decay)
    for found, expected in zip(
        steps(AdaBoundOptions(**wide), start, grads, lrs, weight_decay), adam, strict=True
    ):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)

    class AdamW(Adam):
        def build(self, groups: list[dict[str, Any]], lr: float, total_steps: int) -> torch.optim.Optimizer:
            groups[0]["weight_decay"] /= lr  # torch multiplies by the rate, we by its share of the peak
            return torch.optim.AdamW(groups, lr=lr, eps=1e-15)

    adamw = steps(AdamW(), start, grads, lrs, weight_decay)
    for found, expected in zip(
        steps(AdaBoundWOptions(**wide), start, grads, lrs, weight_decay), adamw, strict=True
    ):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


# --- whatever is registered --------------------------------------------------------------------


def build(name: str, parameters: list[nn.Parameter], lr: float = 0.01) -> torch.optim.Optimizer:
    options = read(optimizers.get(name), {})
    return options.build([{"params": parameters, "weight_decay": 1e-4}], lr, 100)


LARGE_RATES = {"adadelta": 10.0, "adagrad": 0.5}
"""Of optimisers that take small steps at first."""


@pytest.mark.parametrize("name", optimizers.names())
def test_every_optimizer_goes_downhill(name):
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.zeros(2))]
    optimizer, losses = build(name, parameters, LARGE_RATES.get(name, 0.01)), []
    for _ in range(100):
        loss = ((parameters[0] - 0.5) ** 2).sum() + ((parameters[1] - 0.2) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", optimizers.names())
def test_every_optimizer_resumes_bit_for_bit(name, dtype):
    torch.manual_seed(0)
    start = [torch.randn(3, 2, 4, 4, dtype=dtype).to(memory_format=torch.channels_last), torch.zeros(3)]
    grads = [[torch.randn_like(value) for value in start] for _ in range(6)]

    def begin() -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
        parameters = [nn.Parameter(value.clone()) for value in start]
        groups = [
            {"params": parameters[:1], "weight_decay": 1e-2},
            {"params": parameters[1:], "weight_decay": 0.0},
        ]
        return parameters, read(optimizers.get(name), {}).build(groups, 0.01, 6)

    def go_on(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, at: int) -> None:
        for parameter, grad in zip(parameters, grads[at], strict=True):
            parameter.grad = grad.clone()
        for group in optimizer.param_groups:
            group["lr"] = 0.01 / (1 + at)
        optimizer.step()

    parameters, optimizer = begin()
    for at in range(3):
        go_on(parameters, optimizer, at)
    resumed, other = begin()
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for parameter, value in zip(resumed, parameters, strict=True):
        parameter.data.copy_(value.data)
    for at in range(3, 6):
        go_on(parameters, optimizer, at)
        go_on(resumed, other, at)
    for one, other_one in zip(parameters, resumed, strict=True):
        # In half precision Adam's eps is 0, and 0 / 0 is to be expected.
        torch.testing.assert_close(one, other_one, rtol=0, atol=0, equal_nan=True)
        assert dtype == torch.float16 or one.isfinite().all()


@pytest.mark.parametrize("name", optimizers.names())
def test_gradients_are_left_alone_and_may_be_missing(name):
    used, unused = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = build(name, [used, unused])
    used.grad = torch.tensor([1.0, -2.0])
    optimizer.step()
    assert used.grad.tolist() == [1.0, -2.0]
    assert used.tolist() != [1.0, 1.0]
    assert unused.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", optimizers.names())
def test_a_closure_is_asked_for_the_loss(name):
    parameter = nn.Parameter(torch.ones(2))
    optimizer = build(name, [parameter])

    def closure() -> float:
        optimizer.zero_grad()
        loss = (parameter**2).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 2.0
    assert (parameter < 1).all()


# --- weight decay groups -----------------------------------------------------------------------


def decay_groups(model: ModelOptions, **options: Any) -> tuple[nn.Module, list[Group]]:
    """Return a network for CIFAR-10, and its parameter groups."""
    cifar10 = datasets.get("cifar10")()
    config = TrainConfig(model=model, dataset=cifar10, epochs=1, weight_decay=5e-4, **options)
    network = model.build(cifar10.spec)
    return network, parameter_groups(network, config)


def test_everything_decays_unless_told_otherwise():
    model, (group,) = decay_groups(models.get("vgg")())
    assert group.weight_decay == 5e-4
    assert [id(p) for p in group.params] == [id(p) for p in model.parameters()]


def test_only_the_weights_of_convolutions_decay():
    model, (decayed, plain) = decay_groups(models.get("resnet_preact")(depth=20), no_weight_decay_on_bn=True)
    assert (decayed.weight_decay, plain.weight_decay) == (5e-4, 0.0)
    assert len(decayed.params) == 1 + 18 + 2  # stem, blocks, shortcuts
    assert all(p.dim() == 4 for p in decayed.params)
    assert len(plain.params) == 2 * 19 + 2  # batch normalisations and the linear layer
    assert sorted(p.dim() for p in plain.params) == [1] * 39 + [2]
    assert len(decayed.params) + len(plain.params) == len(list(model.parameters()))


def test_the_bias_of_a_convolution_does_not_decay():
    _, (decayed, plain) = decay_groups(models.get("vgg")(), no_weight_decay_on_bn=True)
    assert {p.dim() for p in decayed.params} == {4}
    assert {p.dim() for p in plain.params} == {1, 2}


@pytest.mark.parametrize(
    ("kinds", "dims"),
    [
        (["conv"], [4] * 21),
        (["linear"], [2]),
        (["linear", "conv"], [2] + [4] * 21),
        (["bn"], [1] * 38),
        (["other"], [1]),  # the bias of the linear layer
        (["bn", "other", "conv", "linear"], [1] * 39 + [2] + [4] * 21),
    ],
)
def test_weight_decay_on_names_what_decays(kinds, dims):
    _, (decayed, plain) = decay_groups(models.get("resnet_preact")(depth=20), weight_decay_on=tuple(kinds))
    assert (decayed.weight_decay, plain.weight_decay) == (5e-4, 0.0)
    assert sorted(p.dim() for p in decayed.params) == dims
    assert len(decayed.params) + len(plain.params) == 61


def test_weight_decay_on_is_one_config_in_any_order_and_checked():
    base = {"model": {"name": "resnet_preact", "depth": 20}, "epochs": 1}
    orders = (["conv", "linear"], ["linear", "conv"])
    first, second = (TrainConfig.from_dict(base | {"weight_decay_on": kinds}) for kinds in orders)
    assert (
        first.canonical()
        == second.canonical()
        == base | {"model": {"name": "resnet_preact", "depth": 20}, "weight_decay_on": ["conv", "linear"]}
    )
    assert "weight_decay_on" not in TrainConfig.from_dict(base).canonical()
    for options, problem in [
        ({"weight_decay_on": []}, "must name a kind"),
        ({"weight_decay_on": ["conv", "conv"]}, "names one twice"),
        ({"weight_decay_on": ["convs"]}, "Did you mean 'conv'"),
        ({"weight_decay_on": ["conv"], "no_weight_decay_on_bn": True}, "keep one of the two"),
    ]:
        with pytest.raises(ConfigError, match=problem):
            TrainConfig.from_dict(base | options)


# --- RMSprop, Adadelta, Adagrad ----------------------------------------------------------------


def test_rmsprop_by_hand():
    grads, lrs = [[0.6, -0.8], [-2.0, 0.5], [0.1, 0.1]], [0.02, 0.3, 0.005]
    found = steps(RMSprop(alpha=0.9), [3.0, -4.0], grads, lrs, weight_decay=0.1)
    w, square = [3.0, -4.0], [0.0, 0.0]
    for g, lr in zip(grads, lrs, strict=True):
        g = [gi + 0.1 * wi for gi, wi in zip(g, w, strict=True)]
        square = [0.9 * s + 0.1 * gi**2 for s, gi in zip(square, g, strict=True)]
        w = [wi - lr * gi / (math.sqrt(s) + 1e-8) for wi, gi, s in zip(w, g, square, strict=True)]
        assert next(found) == pytest.approx(w, rel=1e-12)


def test_adagrad_by_hand():
    grads, lrs = [[0.6, -0.8], [-2.0, 0.5], [0.1, 0.1]], [0.02, 0.3, 0.005]
    found = steps(Adagrad(), [3.0, -4.0], grads, lrs, weight_decay=0.1)
    w, total = [3.0, -4.0], [0.0, 0.0]
    for g, lr in zip(grads, lrs, strict=True):
        g = [gi + 0.1 * wi for gi, wi in zip(g, w, strict=True)]
        total = [s + gi**2 for s, gi in zip(total, g, strict=True)]
        w = [wi - lr * gi / (math.sqrt(s) + 1e-10) for wi, gi, s in zip(w, g, total, strict=True)]
        assert next(found) == pytest.approx(w, rel=1e-12)


def test_adadelta_by_hand():
    """With lr 1 it is the paper's: the rate has no part in what is remembered."""
    grads, lrs = [[0.6, -0.8], [-2.0, 0.5], [0.1, 0.1]], [1.0, 1.0, 0.5]
    found = steps(Adadelta(rho=0.3), [3.0, -4.0], grads, lrs, weight_decay=0.1)
    w, square, step_square = [3.0, -4.0], [0.0, 0.0], [0.0, 0.0]
    for g, lr in zip(grads, lrs, strict=True):
        g = [gi + 0.1 * wi for gi, wi in zip(g, w, strict=True)]
        square = [0.3 * s + 0.7 * gi**2 for s, gi in zip(square, g, strict=True)]
        taken = [
            gi * math.sqrt(d + 1e-6) / math.sqrt(s + 1e-6)
            for gi, s, d in zip(g, square, step_square, strict=True)
        ]
        step_square = [0.3 * d + 0.7 * t**2 for d, t in zip(step_square, taken, strict=True)]
        w = [wi - lr * t for wi, t in zip(w, taken, strict=True)]
        assert next(found) == pytest.approx(w, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "torchs", "given_options"),
    [
        (RMSprop(alpha=0.9, momentum=0.5), torch.optim.RMSprop, {"alpha": 0.9, "momentum": 0.5}),
        (Adadelta(rho=0.3), torch.optim.Adadelta, {"rho": 0.3}),
        (Adagrad(), torch.optim.Adagrad, {}),
    ],
    ids=["rmsprop", "adadelta", "adagrad"],
)
def test_the_step_is_torch_s(options, torchs, given_options):
    torch.manual_seed(0)
    grads, lrs = torch.randn(4, 3).tolist(), [0.1, 0.2, 0.05, 0.01]
    found = list(steps(options, [1.0, -2.0, 0.5], grads, lrs, weight_decay=0.01))
    parameter = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=DTYPE))
    optimizer = torchs([parameter], lr=0.1, weight_decay=0.01, **given_options)
    for grad, lr, values in zip(grads, lrs, found, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        parameter.grad = torch.tensor(grad, dtype=DTYPE)
        optimizer.step()
        assert values == parameter.tolist()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"alpha": 1.0}, "rmsprop"),
        ({"eps": 0.0}, "rmsprop"),
        ({"rho": -0.1}, "adadelta"),
        ({"eps": 0.0}, "adagrad"),
    ],
)
def test_impossible_options_are_refused_by_name(options, name):
    (key,) = options
    with pytest.raises(ConfigError, match=f"{key}: must be"):
        read(optimizers.get(name), options)
