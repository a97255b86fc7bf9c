"""Training time to the second: steps of 0.5 s, tests of 0.25 s, saves of 1 s."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from trainer import Runtime, checkpoint, clock, learner, loop, train
from trainer.datasets import DataSpec
from trainer.loop import Interrupted
from trainer.selections.proxy import ProxyOptions

STEPS_OF_AN_EPOCH = 3
STEP, TEST, SAVE = 0.5, 0.25, 1.0


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds."""
    now = [100.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
def saves(now: list[float], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let steps, tests and saves take their time. Return the steps before which something is saved."""
    saved: list[int] = []

    def slow(function: Any, seconds: float) -> Any:
        def called(*arguments: Any) -> Any:
            result = function(*arguments)
            now[0] += seconds
            return result

        return called

    def save(path: Path, state: dict[str, Any]) -> None:
        saved.append(state["step"])
        written(path, state)

    written = checkpoint.save
    monkeypatch.setattr(learner.Learner, "train_step", slow(learner.Learner.train_step, STEP))
    monkeypatch.setattr(loop.Run, "test", slow(loop.Run.test, TEST))
    monkeypatch.setattr(checkpoint, "save", slow(save, SAVE))
    return saved


@pytest.fixture
def runtime(tmp_path: Path, cache_dir: Path) -> Runtime:
    return Runtime(cache_dir=cache_dir, data_dir=tmp_path, checkpoint=tmp_path / "one.pt")


@pytest.mark.parametrize(
    ("checkpoint_seconds", "steps"),
    [
        (1000.0, []),
        (1.25, [3, 6]),  # 1.75 s after the start; the save ends 2.75 s after it, and 1.75 s later is the next
        (0.0, list(range(9))),
    ],
)
def test_saving_is_no_training_time(
    checkpoint_seconds: float, steps: list[int], runtime: Runtime, saves: list[int]
) -> None:
    result = train(
        tiny.config(), seed=0, runtime=dataclasses.replace(runtime, checkpoint_seconds=checkpoint_seconds)
    )
    assert saves == steps
    assert [epoch.train_seconds for epoch in result.epochs] == [STEPS_OF_AN_EPOCH * STEP] * 3
    assert result.train_seconds == 4.5
    assert result.time_to_train_seconds == 4.75, "and the last test"
    assert result.images_per_second == 9 * 8 / 4.5


@pytest.mark.parametrize("step", [1, 2, 3, 4, 8])
def test_an_interruption_costs_no_training_time(step: int, runtime: Runtime, saves: list[int]) -> None:
    taken: list[int] = []
    stopped = dataclasses.replace(
        runtime, on_step=taken.append, should_stop=lambda: bool(taken) and taken[-1] == step
    )
    with pytest.raises(Interrupted):
        train(tiny.config(), seed=0, runtime=stopped)
    assert saves == [step]
    result = train(tiny.config(), seed=0, runtime=runtime)
    assert [epoch.train_seconds for epoch in result.epochs] == [1.5] * 3
    assert (result.train_seconds, result.time_to_train_seconds) == (4.5, 4.75)


def test_a_trial_that_had_ended_still_counts_its_last_test(runtime: Runtime, saves: list[int]) -> None:
    runtime = dataclasses.replace(runtime, keep_state=True)
    for _ in range(2):
        result = train(tiny.config(), seed=0, runtime=runtime)
        assert (result.train_seconds, result.time_to_train_seconds) == (4.5, 4.75)
    assert runtime.checkpoint
    state = checkpoint.load(runtime.checkpoint)
    assert state
    del state["test_seconds"]  # as in files of earlier versions
    checkpoint.save(runtime.checkpoint, state)
    assert train(tiny.config(), seed=0, runtime=runtime).time_to_train_seconds == 4.5


@pytest.mark.parametrize(("selects", "seconds"), [(False, 2.0), (True, 4.0)])
def test_preparation_is_time_to_train_and_no_training_time(
    selects: bool, seconds: float, runtime: Runtime, now: list[float], saves: list[int]
) -> None:
    """The network prepares for 2 s, and so does one that selects its examples."""
    seen: list[int] = []

    class PreparedNet(tiny.TinyNet):
        def build(self, data: DataSpec) -> nn.Module:
            def prepare(images: torch.Tensor) -> None:
                seen.append(len(images))
                now[0] += 2.0

            network = tiny.TinyNet.build(self, data)
            network.images_to_prepare = 20  # type: ignore[assignment]
            network.prepare = prepare  # type: ignore[assignment]
            return network

    chosen = ProxyOptions(model=PreparedNet()) if selects else None
    config = tiny.config(model=PreparedNet(), select_examples=chosen)
    result = train(config, seed=0, runtime=runtime)
    assert set(seen) == {20}
    assert (result.train_seconds, result.time_to_train_seconds) == (4.5, 4.75 + seconds)
