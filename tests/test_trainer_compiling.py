"""Compiled networks: the numbers of plain ones, compiled once for all trials of a shape, only where it pays.

Most tests compile with `aot_eager`, which takes the network apart as inductor does and then calls torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny import TinyNet

from trainer import Runtime, TrainConfig, compiling
from trainer.augmentations.dual_cutout import DualCutout
from trainer.loop import Interrupted, train
from trainer.metrics import Result
from trainer.parameter_groups.bn_bias import BNBias
from trainer.parameter_groups.head import Head

DROPOUT = tiny.config(model=TinyNet(dropout=0.5))


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no test find what another has compiled."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    torch._dynamo.reset()
    compiling._shapes.clear()
    yield
    torch._dynamo.reset()
    compiling._shapes.clear()


@pytest.fixture
def runtime(cache_dir: Path, tmp_path: Path) -> Runtime:
    return Runtime(cache_dir=cache_dir, checkpoint=tmp_path / "checkpoint")


def trained(config: TrainConfig, runtime: Runtime, compile: Any, seed: int = 0) -> Result:
    return train(config, seed=seed, runtime=dataclasses.replace(runtime, checkpoint=None, compile=compile))


def losses(result: Result) -> list[float]:
    return [value for epoch in result.epochs for value in (epoch.train_loss or 0, epoch.test_loss or 0)]


def graphs() -> int:
    """Return how many networks have been compiled so far."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def timed(monkeypatch: pytest.MonkeyPatch, plain: float, compiled: float) -> list[bool]:
    """Let a plain and a compiled step take so many seconds; return whose steps were timed, as they are."""
    asked: list[bool] = []

    def seconds(network: Any, *_: Any) -> float:
        is_compiled = isinstance(network, torch._dynamo.eval_frame.OptimizedModule)
        asked.append(is_compiled)
        return compiled if is_compiled else plain

    monkeypatch.setattr(compiling, "_seconds", seconds)
    return asked


@pytest.mark.parametrize("config", [tiny.config(), DROPOUT, tiny.config(subdivision=4)])
def test_the_numbers_are_those_of_the_plain_network(config: TrainConfig, runtime: Runtime) -> None:
    plain, compiled = trained(config, runtime, "off"), trained(config, runtime, "on")
    assert (plain.compiled, compiled.compiled) == (False, True)
    assert losses(compiled) == pytest.approx(losses(plain), rel=compiling.TOLERANCE)


def test_where_it_does_not_pay_nothing_changes(runtime: Runtime) -> None:
    plain, before = trained(DROPOUT, runtime, "off"), graphs()
    again = trained(DROPOUT, runtime, "auto")  # some milliseconds long
    assert not again.compiled
    assert graphs() == before
    assert losses(again) == losses(plain), "bit for bit"


def test_the_next_trial_of_a_shape_is_compiled_at_once(runtime: Runtime) -> None:
    trained(DROPOUT, runtime, "on")
    before = graphs()
    other = dataclasses.replace(DROPOUT, lr=0.01, epochs=2, weight_decay=0.1)
    assert trained(other, runtime, "on", seed=1).compiled
    assert graphs() == before, "neither another seed nor another rate is compiled anew"
    wider = dataclasses.replace(DROPOUT, model=TinyNet(channels=12, dropout=0.5))
    assert trained(wider, runtime, "on").compiled
    assert graphs() > before


@pytest.mark.parametrize(
    "options",
    [
        {"parameter_groups": (BNBias(epochs=1), Head(epochs=2))},
        {"augmentation": (DualCutout(size=2, alpha=0.1),), "subdivision": 2},
    ],
)
def test_nothing_is_compiled_between_two_steps(
    options: dict[str, Any], runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither when parameters are frozen, nor since a batch is larger than the network was compiled for."""
    seen: list[int] = []
    on_step = dataclasses.replace(runtime, on_step=lambda step: seen.append(graphs()))
    before = graphs()
    assert trained(tiny.config(**options), on_step, "on").compiled
    assert before < seen[0] == graphs()


def test_more_shapes_than_are_kept(runtime: Runtime) -> None:
    for batch_size in range(4, 14):
        config = tiny.config(batch_size=batch_size, epochs=1)
        assert trained(config, runtime, "on").compiled
    assert len(compiling._shapes) <= compiling._MOST_STAGES


def test_auto_waits_until_trials_would_have_saved_what_compiling_takes(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = timed(monkeypatch, plain=10.0, compiled=7.0)
    monkeypatch.setattr(compiling, "_SECONDS_A_LAYER", {"cpu": 5.0})  # the tiny network has 3: 15 s in all
    # One trial of 9 steps takes 90 s, of which a tenth may be saved: 9 s. Two of them: 18 s.
    assert [trained(tiny.config(), runtime, "auto", seed).compiled for seed in range(3)] == [
        False,
        True,
        True,
    ]
    assert asked == [False, True], "each is measured once"


def test_auto_keeps_the_plain_network_if_the_compiled_one_is_no_faster(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, plain=100.0, compiled=98.0)
    assert not trained(tiny.config(), runtime, "auto").compiled


def test_a_network_that_cannot_be_compiled(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, plain=1e6, compiled=1.0)
    monkeypatch.setattr(compiling, "BACKEND", "no_such_backend")
    assert not trained(tiny.config(), runtime, "auto").compiled
    with pytest.raises(RuntimeError, match=r"compile: on: .* cannot be compiled"):
        trained(tiny.config(), runtime, "on")


def test_what_would_be_compiled_anew_at_each_step(runtime: Runtime) -> None:
    config = tiny.config(bn_momentum="dynamic")
    assert not trained(config, runtime, "auto").compiled
    with pytest.raises(RuntimeError, match="compile: on does not go with bn_momentum: dynamic"):
        trained(config, runtime, "on")


def test_a_trial_that_resumes_says_from_where_it_is_compiled(runtime: Runtime) -> None:
    steps: list[int] = []

    def stop() -> bool:
        return bool(steps) and steps[-1] >= 4

    with pytest.raises(Interrupted):
        train(
            tiny.config(),
            seed=0,
            runtime=dataclasses.replace(runtime, on_step=steps.append, should_stop=stop),
        )
    result = train(tiny.config(), seed=0, runtime=dataclasses.replace(runtime, compile="on"))
    assert "compiled from step 4 on" in result.notes
    assert result.compiled


@pytest.mark.slow
def test_inductor_gives_the_gradients_of_the_plain_network(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "inductor")
    for config in (tiny.config(), DROPOUT):
        plain, compiled = trained(config, runtime, "off"), trained(config, runtime, "on")
        assert compiled.compiled
        assert losses(compiled) == pytest.approx(losses(plain), rel=compiling.TOLERANCE)


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("tf32", 1e-2), ("mixed_bf16", 5e-2)])
def test_gpu_a_compiled_network_trains_as_the_plain_one(
    precision: Any, tolerance: float, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By inductor, which reads TF32's switches on a GPU."""
    monkeypatch.setattr(compiling, "BACKEND", "inductor")
    config = tiny.config(precision=precision)
    on_gpu = dataclasses.replace(runtime, device="cuda")
    compiled, plain = trained(config, on_gpu, "on"), trained(config, on_gpu, "off")
    assert (compiled.compiled, plain.compiled) == (True, False)
    assert losses(compiled) == pytest.approx(losses(plain), rel=tolerance)
