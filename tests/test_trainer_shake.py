"""Random factors inside networks: shake-shake, ShakeDrop, and the gradients they replace."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.datasets import datasets
from trainer.models._layers import initialise, rescale
from trainer.models.pyramidnet import PyramidNetOptions
from trainer.models.pyramidnet.network import ShakeDrop
from trainer.models.shake_shake import ShakeShakeOptions
from trainer.models.shake_shake.network import Shake

DIGITS = datasets.get("digits")().spec  # 8x8x1


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """For layers this small more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def draws(monkeypatch):
    """Return a list; each call of torch.rand takes its first item, which must be of the size asked for."""
    values = []

    def rand(*size, device=None):
        shape = torch.Size(size[0] if isinstance(size[0], tuple) else size)
        drawn = torch.tensor(values.pop(0), device=device)
        assert drawn.numel() == shape.numel()
        return drawn.view(shape)

    monkeypatch.setattr(torch, "rand", rand)
    return values


def per_image(*values):
    return torch.tensor(values).view(-1, 1, 1, 1)


def images(num_images=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_images, 3, 2, 2, generator=generator).requires_grad_()


# --- rescale -----------------------------------------------------------------------------------


def test_rescale_has_one_factor_forward_and_another_backward():
    x = images()
    y = rescale(x, per_image(2.0, -1.0), per_image(0.5, 3.0))
    torch.testing.assert_close(y, x * per_image(2.0, -1.0))
    upstream = torch.randn_like(y)
    y.backward(upstream)
    torch.testing.assert_close(x.grad, upstream * per_image(0.5, 3.0))


def test_rescale_with_equal_factors_has_the_true_gradient():
    x = images().double().detach().requires_grad_()
    factor = per_image(0.3, -0.7).double()
    assert torch.autograd.gradcheck(lambda x: rescale(x, factor, factor), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_rescale_keeps_dtype_and_memory_format(dtype):
    x = images().detach().to(dtype).to(memory_format=torch.channels_last).requires_grad_()
    y = rescale(x, per_image(0.25, 0.5), per_image(0.5, 0.75))
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, x * per_image(0.25, 0.5).to(dtype))
    torch.testing.assert_close(x.grad, per_image(0.5, 0.75).to(dtype).expand_as(x))


# --- shake-shake -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "drawn", "alpha", "beta"),
    [
        ("SSI", [[0.25, 0.75], [0.1, 0.6]], (0.25, 0.75), (0.1, 0.6)),
        ("SSB", [[0.25], [0.1]], (0.25, 0.25), (0.1, 0.1)),
        ("SEI", [[0.25, 0.75]], (0.25, 0.75), (0.5, 0.5)),
        ("ESI", [[0.1, 0.6]], (0.5, 0.5), (0.1, 0.6)),
        ("EEB", [], (0.5, 0.5), (0.5, 0.5)),
    ],
)
def test_shake_by_hand(draws, flags, drawn, alpha, beta):
    draws.extend(drawn)
    shake = Shake(
        ShakeShakeOptions(
            shake_forward=flags[0] == "S", shake_backward=flags[1] == "S", shake_image=flags[2] == "I"
        )
    )
    a, b = images(seed=1), images(seed=2)
    y = shake(a, b)
    alpha, beta = per_image(*alpha), per_image(*beta)
    torch.testing.assert_close(y, alpha * a + (1 - alpha) * b)
    upstream = torch.randn_like(y)
    y.backward(upstream)
    torch.testing.assert_close(a.grad, beta * upstream)
    torch.testing.assert_close(b.grad, (1 - beta) * upstream)
    assert not draws


def test_normalised_weights_by_hand(draws):
    draws.extend([[0.8, 0.5, 0.4, 0.0], [0.0, 0.0, 0.0, 0.75]])  # taken from 1
    a, b = images(seed=1), images(seed=2)
    y = Shake(ShakeShakeOptions(shake_weights="normalised"))(a, b)
    alpha = per_image(0.2 / 0.8, 0.5 / 1.5)
    torch.testing.assert_close(y, alpha * a + (1 - alpha) * b)
    y.sum().backward()
    torch.testing.assert_close(a.grad, per_image(0.5, 0.8).expand_as(a))


@pytest.mark.parametrize(("kind", "below_third"), [("uniform", 1 / 3), ("normalised", 1 / 4)])
def test_distribution_of_weights(kind, below_third):
    torch.manual_seed(0)
    weights = Shake(ShakeShakeOptions(shake_weights=kind)).weights(torch.empty(40_000, 1, 1, 1), random=True)
    assert weights.shape == (40_000, 1, 1, 1)
    assert 0 <= weights.min() < 0.01
    assert 0.99 < weights.max() <= 1
    assert weights.mean().item() == pytest.approx(0.5, abs=0.01)
    assert (weights < 1 / 3).float().mean().item() == pytest.approx(below_third, abs=0.01)


def test_shake_is_even_and_draws_nothing_in_evaluation(draws):
    a, b = images(seed=1), images(seed=2)
    torch.testing.assert_close(Shake(ShakeShakeOptions()).eval()(a, b), (a + b) / 2)


# --- ShakeDrop ---------------------------------------------------------------------------------


def test_shakedrop_by_hand(draws):
    # Three images at survival probability 0.6: the first survives, the others are drawn factors.
    survival, alpha, beta = [0.5, 0.7, 0.9], [0.1, 0.25, 1.0], [0.3, 0.4, 0.9]
    draws.append([survival, alpha, beta])
    x = images(3)
    y = ShakeDrop(0.6)(x)
    torch.testing.assert_close(y, x * per_image(1.0, -0.5, 1.0))  # alpha is in -1..1
    upstream = torch.randn_like(y)
    y.backward(upstream)
    torch.testing.assert_close(x.grad, upstream * per_image(1.0, 0.4, 0.9))


def test_shakedrop_in_evaluation_multiplies_by_the_expectation():
    torch.manual_seed(0)
    x = torch.ones(40_000, 1, 1, 1)
    drop = ShakeDrop(0.7)
    assert drop(x).mean().item() == pytest.approx(0.7, abs=0.01)
    torch.testing.assert_close(drop.eval()(x), torch.full_like(x, 0.7))


def test_shakedrop_at_probability_1_changes_nothing():
    x = images()
    assert torch.equal(ShakeDrop(1.0)(x), x)


def test_shakedrop_probabilities_fall_linearly():
    options = PyramidNetOptions(depth=272, block_type="bottleneck", alpha=200, shakedrop=True)
    probabilities = options.survival_probabilities
    assert len(probabilities) == 90
    assert probabilities[0] == pytest.approx(1 - 0.5 / 90)
    assert probabilities[44] == pytest.approx(0.75)
    assert probabilities[89] == pytest.approx(0.5)
    with torch.device("meta"):
        model = options.build(DIGITS)
    built = [layer.survival_probability for layer in model.modules() if isinstance(layer, ShakeDrop)]
    assert built == probabilities


def test_without_shakedrop_there_is_none():
    model = PyramidNetOptions(depth=8, alpha=4).build(DIGITS)
    assert not any(isinstance(layer, ShakeDrop) for layer in model.modules())


# --- whole networks ----------------------------------------------------------------------------

SHAKING = {
    "shake_shake": ShakeShakeOptions(depth=8, initial_channels=8),
    "shake_shake normalised": ShakeShakeOptions(depth=8, initial_channels=8, shake_weights="normalised"),
    "shakedrop": PyramidNetOptions(depth=8, alpha=6, shakedrop=True),
    "shakedrop bottleneck": PyramidNetOptions(depth=11, block_type="bottleneck", alpha=6, shakedrop=True),
}


def network(name, device="cpu") -> nn.Module:
    torch.manual_seed(0)
    model = SHAKING[name].build(DIGITS)
    initialise(model, "fan_out")
    return model.to(device).to(memory_format=torch.channels_last)


def check_autocast(name, dtype, device):
    model = network(name, device)
    x = torch.randn(4, 1, 8, 8, device=device).to(memory_format=torch.channels_last)
    with torch.autocast(device, dtype=dtype):
        logits = model(x)
    assert logits.dtype == dtype
    nn.functional.cross_entropy(logits.float(), torch.arange(4, device=device)).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad.dtype == torch.float32, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", SHAKING)
def test_autocast(name, dtype):
    check_autocast(name, dtype, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", SHAKING)
def test_autocast_on_gpu(name, dtype):
    check_autocast(name, dtype, "cuda")


@pytest.mark.parametrize("name", SHAKING)
def test_draws_come_from_the_default_generator(name):
    model = network(name)
    x = torch.randn(4, 1, 8, 8)
    state = torch.get_rng_state()
    first = model(x)
    assert not torch.equal(model(x), first)
    torch.set_rng_state(state)
    assert torch.equal(model(x), first)


@pytest.mark.parametrize("name", SHAKING)
def test_evaluation_draws_nothing(name):
    model = network(name).eval()
    x = torch.randn(4, 1, 8, 8)
    state = torch.get_rng_state()
    assert torch.equal(model(x), model(x))
    assert torch.equal(torch.get_rng_state(), state)
