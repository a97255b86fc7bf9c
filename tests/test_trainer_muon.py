"""Muon: its steps against a reference in float64, the polynomial, rescaling, decay, and the SGD beside it."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer import ConfigError
from trainer.optimizers.muon import MuonOptions
from trainer.optimizers.muon.optimizer import newton_schulz, orthogonalised

AIRBENCH = MuonOptions()
COEFFICIENTS = AIRBENCH.coefficients
RECORD = MuonOptions(
    momentum=0.655,
    sgd_momentum=0.825,
    coefficients=(3.4576, -4.7391, 2.0843),
    rescale_every=2,
    rescale_growth=15,
)
SHAPES = ((4, 3, 2, 2), (9, 2, 2, 1), (4, 4, 1, 1), (4, 3, 2, 2))  # wide, tall, square, wide
LRS = [0.24, 0.2, 0.15, 0.1, 0.05]


def parameters(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]


def gradients(like: list[nn.Parameter], number: int) -> list[list[Tensor]]:
    """Return the gradients of so many steps."""
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(p.shape, generator=generator).to(p.dtype) for p in like] for _ in range(number)]


def build(
    options: MuonOptions, params: list[nn.Parameter], weight_decay: float = 0.0, total_steps: int = 100
) -> torch.optim.Optimizer:
    return options.build([{"params": params, "weight_decay": weight_decay}], LRS[0], total_steps)


def take_step(optimizer: torch.optim.Optimizer, grads: list[Tensor], lr: float) -> None:
    (group,) = optimizer.param_groups
    group["lr"] = lr
    for p, grad in zip(group["params"], grads, strict=True):
        p.grad = grad.to(p.device, copy=True)
    optimizer.step()


def reference(
    w: Tensor, grads: list[Tensor], options: MuonOptions, rescaled: set[int], decay: float
) -> Tensor:
    """Return one filter bank after a step with each of `grads`. Those in `rescaled`, from 1, rescale first.

    The polynomial acts on the singular values of a matrix, so they are computed and it is applied to them.
    """
    shape, w = w.shape, w.double().flatten(1)
    a, b, c = options.coefficients
    v = torch.zeros_like(w)
    for at, (grad, lr) in enumerate(zip(grads, LRS, strict=False), start=1):
        g = grad.double().flatten(1)
        v = options.momentum * v + g
        left, sizes, right = torch.linalg.svd(g + options.momentum * v, full_matrices=False)
        sizes = sizes / sizes.square().sum().sqrt()
        for _ in range(options.steps):
            sizes = a * sizes + b * sizes**3 + c * sizes**5
        if at in rescaled:
            w = w * len(w) ** 0.5 / w.square().sum().sqrt()
        w = (w - lr * left @ torch.diag(sizes) @ right) * (1 - lr * decay)
    return w.reshape(shape)


# --- whole steps -------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(
    ("options", "rescaled"), [(AIRBENCH, {1, 2, 3, 4, 5}), (RECORD, {2, 4})], ids=["airbench", "record"]
)
def test_steps_equal_the_reference(options, rescaled, decay):
    params = parameters(*SHAPES)
    starts = [p.detach().clone() for p in params]
    grads = gradients(params, len(LRS))
    optimizer = build(options, params, decay)
    for at, lr in enumerate(LRS, start=1):
        take_step(optimizer, grads[at - 1], lr)
        for number, (p, start) in enumerate(zip(params, starts, strict=True)):
            expected = reference(start, [each[number] for each in grads[:at]], options, rescaled, decay)
            torch.testing.assert_close(p.detach(), expected, rtol=0, atol=1e-6)  # 1e-7 is added to norms


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float16, 4e-3)], ids=["fp32", "pure_fp16"]
)
def test_steps_in_lower_precision_are_close(dtype, tolerance, device):
    """On a GPU products are bfloat16, whose numbers have 8 bits, and the updates add up to about 0.7."""
    params = parameters(*SHAPES, dtype=dtype)
    starts = [p.detach().clone() for p in params]
    grads = gradients(params, len(LRS))
    moved = [nn.Parameter(p.detach().to(device, memory_format=torch.channels_last)) for p in params]
    optimizer = build(AIRBENCH, moved)
    for grad, lr in zip(grads, LRS, strict=True):
        take_step(optimizer, grad, lr)
    for number, (p, start) in enumerate(zip(moved, starts, strict=True)):
        assert p.dtype == dtype
        expected = reference(start, [each[number] for each in grads], AIRBENCH, {1, 2, 3, 4, 5}, 0.0)
        found = p.detach().cpu().double()
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance if device == "cpu" else 0.03)


def test_a_step_by_hand():
    """A filter bank of one row: its only singular value is 1 before the polynomial."""
    w = nn.Parameter(torch.tensor([[[[3.0, 4.0]]]], dtype=torch.float64))
    optimizer = build(MuonOptions(steps=1, coefficients=(2.0, -1.5, 0.25)), [w], weight_decay=0.5)
    take_step(optimizer, [torch.tensor([[[[0.0, -8.0]]]], dtype=torch.float64)], 0.2)
    # [0.6, 0.8] after rescaling; the update is (2 - 1.5 + 0.25) [0, -1]; lr 0.2; decay 1 - 0.2 x 0.5
    assert w.flatten().tolist() == pytest.approx([0.6 * 0.9, (0.8 + 0.2 * 0.75) * 0.9], rel=1e-6)


# --- the polynomial ----------------------------------------------------------------------------


def test_the_polynomial_is_that_of_the_matrices():
    x = torch.randn(3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a, b, c = coefficients = (3.4445, -4.7750, 2.0315)
    for matrix, found in zip(x, newton_schulz(x, 2, coefficients), strict=True):
        y = matrix / matrix.square().sum().sqrt()
        for _ in range(2):
            y = a * y + b * y @ y.T @ y + c * y @ y.T @ y @ y.T @ y
        torch.testing.assert_close(found, y, rtol=0, atol=1e-6)


def test_a_tall_matrix_gives_the_transpose_of_a_wide_one():
    x = torch.randn(2, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tall, wide = newton_schulz(x, 3, COEFFICIENTS), newton_schulz(x.mT, 3, COEFFICIENTS)
    torch.testing.assert_close(tall, wide.mT, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [AIRBENCH, RECORD], ids=["airbench", "record"])
def test_singular_values_come_near_1(options, dtype):
    x = torch.randn(2, 24, 216, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = newton_schulz(x, options.steps, options.coefficients)
    assert found.dtype == dtype
    sizes = torch.linalg.svdvals(found.double())
    assert 0.5 < sizes.min() < sizes.max() < 1.5
    assert sizes.max() - sizes.min() > 0.05  # near 1, not 1


def test_each_filter_bank_is_orthogonalised_by_itself():
    """Those of one shape go together, and one does not see the others."""
    banks = [p.detach() for p in parameters(*SHAPES)]
    together = orthogonalised(banks, 3, COEFFICIENTS)
    for bank, found in zip(banks, together, strict=True):
        (alone,) = orthogonalised([bank], 3, COEFFICIENTS)
        assert found.shape == bank.shape
        torch.testing.assert_close(found, alone, rtol=0, atol=1e-12)


# --- rescaling and decay -----------------------------------------------------------------------


def rescaled_at(options: MuonOptions, total_steps: int) -> list[int]:
    """Return the steps, from 1, that bring a filter bank to its norm, without gradients."""
    (p,) = params = parameters((4, 3, 2, 2))
    optimizer, found = build(options, params, total_steps=total_steps), []
    for step in range(1, total_steps + 1):
        with torch.no_grad():
            p.fill_(0.7)
        take_step(optimizer, [torch.zeros_like(p)], 0.1)
        if p.norm().item() == pytest.approx(2.0, rel=1e-6):  # the root of 4 output channels
            found.append(step)
        else:
            assert torch.equal(p, torch.full_like(p, 0.7))
    return found


def test_filters_are_rescaled_before_every_step_or_less_and_less_often():
    assert rescaled_at(AIRBENCH, 5) == [1, 2, 3, 4, 5]
    assert rescaled_at(MuonOptions(rescale_every=2), 7) == [2, 4, 6]
    # The interval is 2 + step // 2: 3 at step 3, 6 at step 9, 12 at step 21, which are 3, 6, 12 apart.
    assert rescaled_at(RECORD, 30) == [3, 9, 21]
    # 2 up to step 16, then 3 up to 32: 15 x 17 / 243 is the first above 1.
    assert rescaled_at(RECORD, 243)[:13] == [2, 4, 6, 8, 10, 12, 14, 16, 19, 22, 25, 28, 31]


def test_decay_is_decoupled():
    """It takes its share of the weights, whatever the gradient, and does not enter the momentum."""
    (p,) = params = parameters((4, 3, 2, 2))
    options = MuonOptions(rescale_every=100)
    start, optimizer = p.detach().clone(), build(options, params, weight_decay=0.5)
    for lr in (0.2, 0.1):
        take_step(optimizer, [torch.zeros_like(p)], lr)
    torch.testing.assert_close(p.detach(), start * 0.9 * 0.95)
    assert not optimizer.state[p]["velocity"].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_zeros_stay_finite(dtype):
    """Gradients of zeros, and filters of zeros."""
    params = parameters((4, 3, 2, 2), (2, 1, 1, 1), dtype=dtype)
    with torch.no_grad():
        params[1].zero_()
    optimizer = build(AIRBENCH, params)
    take_step(optimizer, [torch.zeros_like(p) for p in params], 0.1)
    assert params[0].norm().item() == pytest.approx(2.0, rel=1e-2)
    assert params[1].tolist() == [[[[0.0]]], [[[0.0]]]]


# --- other parameters --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_other_parameters_take_the_very_steps_of_sgd(weight_decay, dtype):
    shapes = ((5,), (3, 4), (2, 3, 4), (2, 2, 2, 2, 2))
    params, others = parameters(*shapes, dtype=dtype), parameters(*shapes, dtype=dtype)
    filters = parameters((4, 3, 2, 2))
    ours = build(AIRBENCH, [*params, *filters], weight_decay)
    sgd = torch.optim.SGD(others, lr=0.1, momentum=0.85, nesterov=True, weight_decay=weight_decay)
    for grads, lr in zip(gradients([*params, *filters], len(LRS)), LRS, strict=True):
        take_step(ours, grads, lr)
        take_step(sgd, grads[:-1], lr)
        assert all(torch.equal(p, other) for p, other in zip(params, others, strict=True))


def test_filters_and_other_parameters_in_one_group_step_as_they_do_alone():
    together = parameters(SHAPES[0], (5,), SHAPES[1])
    apart = [[nn.Parameter(p.detach().clone()) for p in some] for some in (together[::2], together[1:2])]
    grads = gradients(together, 3)
    optimizers = [build(AIRBENCH, some) for some in (together, *apart)]
    for each, lr in zip(grads, LRS, strict=False):
        for optimizer, own in zip(optimizers, (each, each[::2], each[1:2]), strict=True):
            take_step(optimizer, own, lr)
    for p, alone in zip(together, (apart[0][0], apart[1][0], apart[0][1]), strict=True):
        torch.testing.assert_close(p, alone, rtol=0, atol=0)


def test_each_group_has_its_own_rate_and_decay():
    (filters, bias), (frozen, _) = parameters((4, 3, 2, 2), (5,)), parameters((4, 3, 2, 2), (1,))
    groups = [
        {"params": [filters, frozen], "weight_decay": 0.0},
        {"params": [bias], "weight_decay": 0.5, "lr": 0.01},
    ]
    optimizer = AIRBENCH.build(groups, 0.24, 10)
    assert [group["lr"] for group in optimizer.param_groups] == [0.24, 0.01]
    was, before = frozen.detach().clone(), bias.detach().clone()
    filters.grad, bias.grad = torch.ones_like(filters), torch.ones_like(bias)
    optimizer.step()
    assert torch.equal(frozen, was)
    torch.testing.assert_close(bias.detach(), before - 0.01 * (1 + 0.85) * (1 + 0.5 * before))


# --- resuming, and options ---------------------------------------------------------------------


def test_a_resumed_run_rescales_when_the_whole_one_does():
    def begin() -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
        params = parameters((4, 3, 2, 2), (9, 2, 1, 1), (5,), dtype=torch.float32)
        return params, build(RECORD, params, weight_decay=0.1, total_steps=30)

    whole, optimizer = begin()
    grads = gradients(whole, 30)
    for at in range(30):
        if at == 11:  # between the rescaling of step 9 and that of step 21
            file = io.BytesIO()
            torch.save({"params": whole, "optimizer": optimizer.state_dict()}, file)
        take_step(optimizer, grads[at], 0.1)
    state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    resumed, optimizer = begin()
    optimizer.load_state_dict(state["optimizer"])
    with torch.no_grad():
        for p, value in zip(resumed, state["params"], strict=True):
            p.copy_(value)
    for at in range(11, 30):
        take_step(optimizer, grads[at], 0.1)
    assert all(torch.equal(p, other) for p, other in zip(whole, resumed, strict=True))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"momentum": 1.0}, "momentum: must be >= 0 and < 1, got 1.0"),
        ({"sgd_momentum": -0.1}, "sgd_momentum: must be >= 0 and < 1, got -0.1"),
        ({"steps": 0}, "steps: must be > 0, got 0"),
        ({"rescale_every": 0}, "rescale_every: must be > 0, got 0"),
        ({"rescale_growth": -1}, "rescale_growth: must be >= 0, got -1"),
    ],
)
def test_options_that_make_no_sense_are_refused(values: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        MuonOptions(**values)
