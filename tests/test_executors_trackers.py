"""What experiment trackers are told, through a tracker that only takes notes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from gridrun.errors import LaunchError
from gridrun.executors.ray.trackers import Tracker, Trackers
from gridrun.sweep.events import Ended, Event, Lost, Progress, Started
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


TRIAL = Trial(config(), seed=7)


def at(epoch: int, test_error: float | None = 0.5) -> Epoch:
    return Epoch(
        epoch=epoch,
        lr=0.1,
        train_loss=1.0,
        train_error=0.5,
        test_loss=1.0,
        test_error=test_error,
        train_seconds=1.0,
    )


def told(notes: Notes, events: list[Event], tmp_path: Path) -> list[str]:
    warnings: list[str] = []
    tracker = Tracker("Notes", notes, tmp_path / "new", warnings.append)
    for event in events:
        tracker.handle(event)
    tracker.close()
    return warnings


def test_every_epoch_is_told_once_under_the_trial_s_id(tmp_path: Path) -> None:
    notes = Notes()
    events = [Progress(TRIAL, at(1)), Progress(TRIAL, at(2, None)), Ended(TRIAL, "done", at(2, None))]
    assert not told(notes, events, tmp_path)
    key = TRIAL.trial_id
    assert notes.lines == [
        ("setup",),
        ("start", key, 7, TRIAL.config.lr),
        ("result", key, 1, 0.5),
        ("result", key, 2, None),
        ("end", key, False),
        ("over",),
    ]


def test_an_end_without_an_epoch_is_not_told_of(tmp_path: Path) -> None:
    notes = Notes()
    told(notes, [Started(TRIAL), Ended(TRIAL, "busy")], tmp_path)
    assert notes.lines == [("setup",), ("over",)]


@pytest.mark.parametrize("end", [Ended(TRIAL, "failed", at(1)), Lost(TRIAL, "worker_killed", "it died")])
def test_a_failed_trial_ends_as_failed(end: Event, tmp_path: Path) -> None:
    notes = Notes()
    told(notes, [Progress(TRIAL, at(1)), end], tmp_path)
    assert notes.lines[-2:] == [("end", TRIAL.trial_id, True), ("over",)]


def test_a_tracker_that_breaks_is_told_no_more_and_said_so_once(tmp_path: Path) -> None:
    notes = Notes(broken=True)
    warnings = told(notes, [Progress(TRIAL, at(1)), Ended(TRIAL, "done", at(2))], tmp_path)
    assert notes.lines == [("setup",)]
    assert warnings == ["Notes is told no more: ConnectionError: server is down"]


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LaunchError, match="pip install wandb"):
        Trackers(wandb=True)
    with pytest.raises(LaunchError, match="pip install mlflow"):
        Trackers(mlflow="http://localhost:5000")
    assert not Trackers()
