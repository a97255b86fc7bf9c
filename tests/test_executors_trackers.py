"""What experiment trackers are told, through a tracker that only takes notes."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gridrun.errors import LaunchError
from gridrun.executors.ray import trackers
from gridrun.executors.ray.trackers import Trackers
from gridrun.trial import Trial
from tests.tiny import config
from trainer.metrics import Epoch


class Notes:
    """A tracker, as far as ours call it."""

    def __init__(self, broken: bool = False) -> None:
        self.lines: list[tuple[Any, ...]] = []
        self.broken = broken

    def setup(self) -> None:
        self.lines.append(("setup",))

    def log_trial_start(self, trial: Any) -> None:
        if self.broken:
            raise ConnectionError("server is down")
        self.lines.append(("start", str(trial), trial.config["seed"], trial.config["lr"]))

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        self.lines.append(("result", str(trial), result["training_iteration"], result.get("test_error")))

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        self.lines.append(("end", str(trial), failed))

    def on_experiment_end(self, trials: Any) -> None:
        self.lines.append(("over",))


def at(epoch: int, test_error: float | None = 0.5) -> dict[str, Any]:
    return dataclasses.asdict(
        Epoch(
            epoch=epoch,
            lr=0.1,
            train_loss=1.0,
            train_error=0.5,
            test_loss=1.0,
            test_error=test_error,
            train_seconds=1.0,
        )
    )


def told(notes: Notes, results: list[dict[str, Any]], tmp_path: Path) -> tuple[Trial, list[str]]:
    trial, warnings = Trial(config(), seed=7), []
    callback = trackers._callback(
        name="Notes",
        logger=notes,
        by_id={trial.trial_id: trial},
        directory=tmp_path / "new",
        warn=warnings.append,
    )
    of_tune = SimpleNamespace(config={"trial_id": trial.trial_id})
    callback.setup()
    for iteration, result in enumerate(results):
        callback.on_trial_result(iteration, [], of_tune, result)
    callback.on_experiment_end([])
    return trial, warnings


def test_every_epoch_is_told_once_under_the_trial_s_id(tmp_path: Path) -> None:
    notes = Notes()
    results = [{"epoch": at(1)}, {"epoch": at(2, None)}, {"epoch": at(2, None), "outcome": "done"}]
    trial, warnings = told(notes, results, tmp_path)
    key = trial.trial_id
    assert notes.lines == [
        ("setup",),
        ("start", key, 7, trial.config.lr),
        ("result", key, 1, 0.5),
        ("result", key, 2, None),
        ("end", key, False),
        ("over",),
    ]
    assert not warnings


def test_a_turn_without_an_epoch_is_not_told_of(tmp_path: Path) -> None:
    notes = Notes()
    told(notes, [{"epoch": None, "outcome": "busy"}], tmp_path)
    assert notes.lines == [("setup",), ("over",)]


def test_a_failed_trial_ends_as_failed(tmp_path: Path) -> None:
    notes = Notes()
    trial, _ = told(notes, [{"epoch": at(1), "outcome": "failed"}], tmp_path)
    assert ("end", trial.trial_id, True) in notes.lines


def test_a_tracker_that_breaks_is_told_no_more_and_said_so_once(tmp_path: Path) -> None:
    notes = Notes(broken=True)
    _, warnings = told(notes, [{"epoch": at(1)}, {"epoch": at(2), "outcome": "done"}], tmp_path)
    assert notes.lines == [("setup",)]
    assert warnings == ["Notes is told no more: ConnectionError: server is down"]


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LaunchError, match="pip install wandb"):
        Trackers(wandb=True)
    with pytest.raises(LaunchError, match="pip install mlflow"):
        Trackers(mlflow="http://localhost:5000")
    assert not Trackers()
