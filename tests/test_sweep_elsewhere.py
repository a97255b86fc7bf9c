"""Two launches on one store: each says what it did itself. And what a stopped launch has saved."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import cli
from gridrun import sweep
from gridrun.commands._options import GridOptions
from gridrun.commands._show import format_saved, show_summary
from gridrun.commands._views import format_event
from gridrun.grid import load_grid
from gridrun.plan.overview import overview
from gridrun.store import Store
from gridrun.store.records import Record
from gridrun.sweep import launch, queue
from gridrun.sweep.events import Ended, Event, Started
from gridrun.sweep.executor import Executor
from gridrun.sweep.options import LaunchOptions
from gridrun.sweep.queue import TrialQueue
from gridrun.sweep.worker import Setup, failed_record, identity_of
from gridrun.text import utc_now
from gridrun.trial import Trial
from trainer import Runtime
from trainer.metrics import Epoch

GRID = """
base: {model: {name: resnet_preact, depth: 8}, epochs: 20}
axes: [{batch_size: [32, 64, 128]}]
seeds: 1
"""
LAST = Epoch(
    epoch=20, lr=0.1, train_loss=1.0, train_error=0.5, test_loss=1.0, test_error=0.5, train_seconds=1
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    store.create()
    return store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    return path


def done(trial: Trial) -> Record:
    return Record(**identity_of(trial), status="done", test_error=0.5, ended_at=utc_now())


class Shared(Executor):
    """Another launch trains all but the first trial: one before a worker starts, one while it does."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def run(self, trial_queue: TrialQueue, setup: Setup, on_event: Callable[[Event], None]) -> None:
        for number in range(3):
            queued = trial_queue.take()
            assert queued
            if number == 1:
                self.store.add(done(queued.trial))
            on_event(Started(queued.trial))
            if number != 1:
                self.store.add(done(queued.trial))
            on_event(Ended(queued.trial, "done", *([LAST] if number == 0 else [])))
            trial_queue.task_done(queued.trial)


def test_a_launch_tells_of_its_own_trials_and_sums_up_the_others(
    store: Store, path: Path, cache_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str | None] = []
    options = LaunchOptions(runtime=Runtime(cache_dir=cache_dir))
    summary = launch(
        [load_grid(path)], store, Shared(store), options, lambda e: lines.append(format_event(e))
    )
    words = [line.split()[0] for line in lines if line]
    assert words.count("done") == 1
    assert words.count("started") == 2, "its own, and one that another launch ended just then"
    assert (summary.started, summary.elsewhere) == (1, 2)
    show_summary(summary, store.root, GridOptions())
    shown = capsys.readouterr().err
    assert "3 done of 3 trials" in shown
    assert "Other launches trained 2 trials of these meanwhile." in shown
    show_summary(replace(summary, elsewhere=0), store.root, GridOptions())
    assert "meanwhile" not in capsys.readouterr().err


class Forgetful(Executor):
    """A trial's worker fails, and somebody forgets its record before the launch hears of it."""

    def __init__(self, store: Store) -> None:
        self.store, self.runs = store, 0

    def run(self, trial_queue: TrialQueue, setup: Setup, on_event: Callable[[Event], None]) -> None:
        while queued := trial_queue.take():
            self.runs += 1
            on_event(Started(queued.trial))
            if self.runs == 1:
                self.store.add(failed_record(queued.trial, "exception", "broken"))
                self.store.forget([queued.trial.trial_id])
                on_event(Ended(queued.trial, "failed"))
            else:
                self.store.add(done(queued.trial))
                on_event(Ended(queued.trial, "done", LAST))
            trial_queue.task_done(queued.trial)


def test_a_failed_trial_that_somebody_forgets_meanwhile_is_tried_again(
    store: Store, path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(sweep, "_HELD_POLL_SECONDS", 0.01)
    executor, options = Forgetful(store), LaunchOptions(runtime=Runtime(cache_dir=cache_dir))
    summary = launch([load_grid(path)], store, executor, options, lambda event: None)
    assert executor.runs == 4
    assert summary.plan.counts["done"] == 3


def test_a_trial_that_another_process_holds_is_told_as_such(path: Path) -> None:
    trial = load_grid(path).trials[0]
    assert format_event(Ended(trial, "busy")) == (
        f"busy {trial.trial_id}: another process trains it, or this machine lacks its data"
    )


def test_what_a_stopped_launch_saved_is_in_the_status(store: Store, path: Path) -> None:
    trials = load_grid(path).trials
    for trial, epoch in zip(trials, (7, 3), strict=False):
        with contextlib.suppress(FileExistsError):
            store.checkpoint(trial.trial_id).parent.mkdir(parents=True)
        store.checkpoint(trial.trial_id).write_bytes(b"weights")
        store.note_epoch(trial.trial_id, epoch)
    shown = CliRunner().invoke(cli.main, ["status", str(path), "--results", str(store.root)]).stdout
    assert "3 missing; nothing is running\n2 trials have checkpoints (epoch 7 of 20, 3 of 20)\n" in shown
    shown = CliRunner().invoke(cli.main, ["status", "--results", str(store.root)]).stdout
    assert "2 trials have checkpoints (epoch " in shown
    store.add(done(trials[0]))
    assert overview(store, [load_grid(path)]).saved == {trials[1].trial_id: (3, 20)}


def test_many_checkpoints_are_cut_short() -> None:
    assert format_saved({"a": (7, 20)}) == "1 trial has a checkpoint (epoch 7 of 20)"
    many = format_saved({str(number): (number, None) for number in range(30)})
    assert many == "30 trials have checkpoints (epoch 0, 1, 2, 3, 4, 5, 6, 7, ...)"
