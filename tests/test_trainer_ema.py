"""The average of a network: by hand, and in training."""

from __future__ import annotations

import pytest
import tiny
import torch
from tiny import figures
from torch import nn

from trainer import Runtime
from trainer.ema import EMA
from trainer.loop import train


def test_three_updates_by_hand():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 8.0)
    ema = EMA(model, 0.75)
    found = []
    for weight in (4.0, 0.0, -8.0):
        nn.init.constant_(model.weight, weight)
        ema.update(model)
        found.append(ema.model.weight.item())
    assert found == [7.0, 5.25, 1.9375]
    assert model.weight.item() == -8.0


def test_running_statistics_are_averaged_and_counts_copied():
    model = nn.BatchNorm2d(1, affine=False, momentum=1.0)
    ema = EMA(model, 0.5)
    for value in (2.0, 4.0):
        model(torch.full((2, 1, 2, 2), value))
        ema.update(model)
    assert ema.model.running_mean.tolist() == [2.5]  # of 0, 2 and 4
    assert ema.model.running_var.tolist() == [0.25]  # of 1, 0 and 0
    assert ema.model.num_batches_tracked.item() == 2


def test_the_average_of_half_precision_is_not():
    model = nn.Linear(1, 1, bias=False).half()
    nn.init.constant_(model.weight, 1.0)
    ema = EMA(model, 0.9999)
    nn.init.constant_(model.weight, 2.0)
    ema.update(model)
    assert ema.model.weight.dtype == torch.float32
    assert ema.model.weight.item() == pytest.approx(1.0001)


def test_the_average_takes_no_gradients_and_no_part_in_training():
    model = nn.Linear(2, 2)
    ema = EMA(model, 0.5)
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
