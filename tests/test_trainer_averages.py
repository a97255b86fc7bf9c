"""The average of a network: by hand, and in training."""

from __future__ import annotations

import pytest
import tiny
import torch
from tiny import figures
from torch import nn

from trainer import ConfigError, Runtime
from trainer.averages.ema import EMA
from trainer.averages.lookahead import Lookahead
from trainer.loop import train


def test_three_updates_by_hand():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 8.0)
    ema = EMA(decay=0.75).build(model, total_steps=10)
    found = []
    for step, weight in enumerate((4.0, 0.0, -8.0), 1):
        nn.init.constant_(model.weight, weight)
        ema.update(model, step)
        found.append(ema.model.weight.item())
    assert found == [7.0, 5.25, 1.9375]
    assert model.weight.item() == -8.0


def test_running_statistics_are_averaged_and_counts_copied():
    model = nn.BatchNorm2d(1, affine=False, momentum=1.0)
    ema = EMA(decay=0.5).build(model, total_steps=10)
    for step, value in enumerate((2.0, 4.0), 1):
        model(torch.full((2, 1, 2, 2), value))
        ema.update(model, step)
    assert ema.model.running_mean.tolist() == [2.5]  # of 0, 2 and 4
    assert ema.model.running_var.tolist() == [0.25]  # of 1, 0 and 0
    assert ema.model.num_batches_tracked.item() == 2


def test_the_average_of_half_precision_is_not():
    model = nn.Linear(1, 1, bias=False).half()
    nn.init.constant_(model.weight, 1.0)
    ema = EMA(decay=0.9999).build(model, total_steps=10)
    nn.init.constant_(model.weight, 2.0)
    ema.update(model, 1)
    assert ema.model.weight.dtype == torch.float32
    assert ema.model.weight.item() == pytest.approx(1.0001)


def test_the_average_takes_no_gradients_and_no_part_in_training():
    model = nn.Linear(2, 2)
    ema = EMA(decay=0.5).build(model, total_steps=10)
    assert not any(p.requires_grad for p in ema.model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    before = ema.model.weight.clone()
    nn.init.zeros_(model.weight)
    assert torch.equal(ema.model.weight, before)


def test_with_no_memory_the_average_is_the_network(cache_dir):
    runtime = Runtime(cache_dir=cache_dir)
    plain = figures(train(tiny.config(), seed=0, runtime=runtime))
    assert figures(train(tiny.config(ema_decay=0.0), seed=0, runtime=runtime)) == plain


def test_the_average_is_what_is_evaluated(cache_dir):
    runtime = Runtime(cache_dir=cache_dir)
    plain = figures(train(tiny.config(), seed=0, runtime=runtime))["epochs"]
    averaged = figures(train(tiny.config(ema_decay=0.5), seed=0, runtime=runtime))["epochs"]
    still = figures(train(tiny.config(ema_decay=1 - 1e-9), seed=0, runtime=runtime))["epochs"]
    for one, other, third in zip(plain, averaged, still, strict=True):
        for name in ("train_loss", "train_error", "lr"):
            assert one[name] == other[name] == third[name]
        assert len({epoch["test_loss"] for epoch in (one, other, third)}) == 3
    assert still[0]["test_loss"] == pytest.approx(still[2]["test_loss"], rel=1e-5)  # the initial weights


def test_an_update_every_few_steps_has_the_decay_of_them_all():
    """Page's final recipe: 0.99 to the fifth power, every 5 steps."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    ema = EMA(decay=0.99, every=5).build(model, total_steps=10)
    nn.init.constant_(model.weight, 0.0)
    found = []
    for step in range(1, 11):
        ema.update(model, step)
        found.append(ema.model.weight.item())
    assert found[:4] == [1.0] * 4
    assert found[4:9] == [pytest.approx(0.9509900499)] * 5
    assert found[9] == pytest.approx(0.9509900499**2)


def test_lookahead_decays_as_airbench_s():
    options = Lookahead()
    assert options.decay_at(476, 476) == pytest.approx(0.7737809375)
    assert options.decay_at(238, 476) == pytest.approx(0.7737809375 / 8)
    assert options.decay_at(5, 476) == pytest.approx(8.9678e-7, rel=1e-4)


@pytest.mark.parametrize("total", [6, 7])
def test_lookahead_by_hand(total):
    """Six steps, an update every second one, and perhaps a seventh step that is discarded."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    options = Lookahead(decay=0.5, every=2, ramp=1.0)
    lookahead = options.build(model, total_steps=total)
    shadow, weights = 0.0, []
    for step in range(1, total + 1):
        with torch.no_grad():
            model.weight += 7.0
        before = model.weight.item()
        lookahead.update(model, step)
        if step in (2, 4, 6):
            decay = 0.25 * step / total
            shadow = decay * shadow + (1 - decay) * before
            assert model.weight.item() == pytest.approx(shadow)
        weights.append(model.weight.item())
        assert lookahead.evaluated(model) is model
    assert weights[0] == 7.0
    assert weights[2] == pytest.approx(weights[1] + 7)
    assert weights[-1] == weights[5]  # a seventh step is discarded, the sixth is not
    assert lookahead.model.weight.item() == weights[-1]


def test_lookahead_ends_with_the_running_statistics_of_the_average():
    model = nn.BatchNorm2d(1, affine=False, momentum=1.0)
    lookahead = Lookahead(decay=0.5, every=2, ramp=1.0).build(model, total_steps=3)
    model(torch.full((2, 1, 2, 2), 9.0))
    lookahead.update(model, 2)
    mean = lookahead.model.running_mean.item()
    assert model.running_mean.item() == mean == pytest.approx(9 * (1 - 0.25 * 2 / 3))
    model(torch.full((2, 1, 2, 2), 100.0))
    lookahead.update(model, 3)
    assert model.running_mean.item() == mean


def test_the_short_form_is_the_same_average(cache_dir):
    runtime = Runtime(cache_dir=cache_dir)
    short = figures(train(tiny.config(ema_decay=0.5), seed=0, runtime=runtime))
    average = EMA(decay=0.5)
    assert figures(train(tiny.config(average=average), seed=0, runtime=runtime)) == short
    with pytest.raises(ConfigError, match=r"ema_decay: is short for an average.* keep one"):
        tiny.config(average=average, ema_decay=0.5)
