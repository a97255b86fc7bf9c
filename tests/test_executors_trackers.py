"""What experiment trackers are told, through a tracker that only takes notes."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gridrun.errors import LaunchError
from gridrun.executors.ray.trackers import Tracker, Trackers
from gridrun.grid import Grid, grid_of, load_grid
from gridrun.store import Store
from gridrun.sweep import launch
from gridrun.sweep.events import Ended, Event, Lost, Progress, Started
from gridrun.sweep.executor import Executor
from gridrun.sweep.mlflow import MLflowRuns, MLflowServer
from gridrun.sweep.names import TrialName, names_of
from gridrun.sweep.options import LaunchOptions
from gridrun.sweep.queue import TrialQueue
from gridrun.sweep.retries import Failed, RetryPolicy
from gridrun.sweep.tensorboard import EventFiles
from gridrun.sweep.worker import Setup, failed_record
from gridrun.trial import Trial
from tests.tiny import config
from trainer import Runtime
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
        MLflowRuns("http://localhost:5000", {}, pytest.fail)
    assert not Trackers()


# --- names ---------------------------------------------------------------------------------------

GRID = """\
base: {model: {name: resnet_preact, depth: 20}, dataset: cifar10, epochs: 3}
axes: [{cases: [{name: plain}, {name: "hot / wide", lr: 0.3}]}, {batch_size: [64, 128]}]
seeds: 2
"""


def grid(folder: Path, name: str = "study") -> Grid:
    (folder / f"{name}.yaml").write_text(GRID)
    return load_grid(folder / f"{name}.yaml")


def test_runs_are_named_by_what_differs_and_experiments_by_the_grid(tmp_path: Path) -> None:
    study = grid(tmp_path)
    names = names_of([study, grid(tmp_path, "same_again")])
    assert [names[trial.trial_id].run for trial in study.trials[:4]] == [
        "plain, batch size 64, seed 0",
        "plain, batch size 64, seed 1",
        "plain, batch size 128, seed 0",
        "plain, batch size 128, seed 1",
    ]
    assert {name.experiment for name in names.values()} == {"study"}, "that of the first grid"
    last = study.trials[-1].trial_id
    assert names[last].path(last) == ("study", f"hot-wide__batch-size-128__seed-1__{last[:8]}")


# --- MLflow --------------------------------------------------------------------------------------


class Server(MLflowServer):
    """Takes notes. `runs` are those that it has: their last epochs, by trial id."""

    def __init__(self, runs: dict[str, int] | None = None, *, is_down: bool = False) -> None:
        self.lines: list[tuple[Any, ...]] = []
        self.runs, self.is_down = runs or {}, is_down

    def open(self, trial: Trial, name: TrialName) -> tuple[str, int]:
        if self.is_down:
            raise ConnectionError("server\nis down")
        self.lines.append(("open", *name))
        return "run " + trial.trial_id[:4], self.runs.get(trial.trial_id, 0)

    def log(self, run: str, epoch: Epoch) -> None:
        self.lines.append((run, epoch.epoch))

    def close(self, run: str, status: str) -> None:
        self.lines.append((run, status))


RUN = "run " + TRIAL.trial_id[:4]


def told_mlflow(server: Server, *events: object) -> list[str]:
    warnings: list[str] = []
    names = {TRIAL.trial_id: TrialName("study", "lr 0.1, seed 7")}
    with MLflowRuns("http://there", names, warnings.append, lambda _: server) as runs:
        for event in events:
            runs.show(event)
    return warnings


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (Ended(TRIAL, "done", at(2)), "FINISHED"),
        (Ended(TRIAL, "diverged", at(2)), "FINISHED"),
        (Ended(TRIAL, "interrupted", at(2)), "KILLED"),
    ],
)
def test_a_run_ends_as_its_trial_does(end: Event, status: str) -> None:
    server = Server()
    assert not told_mlflow(server, Started(TRIAL), Progress(TRIAL, at(1)), Progress(TRIAL, at(1)), end)
    assert server.lines == [("open", "study", "lr 0.1, seed 7"), (RUN, 1), (RUN, 2), (RUN, status)]


class FailingExecutor(Executor):
    """Says that a trial has failed after its first epoch."""

    def __init__(self, store: Store, end: Event) -> None:
        self.store, self.end = store, end

    def run(self, trial_queue: TrialQueue, setup: Setup, on_event: Callable[[Event], None]) -> None:
        while trial_queue.take():
            on_event(Started(TRIAL))
            on_event(Progress(TRIAL, at(1)))
            if isinstance(self.end, Ended):
                self.store.add(failed_record(TRIAL, "exception", "broken"))
            on_event(self.end)
            trial_queue.task_done(TRIAL)


FAILURES = [Ended(TRIAL, "failed", at(1)), Lost(TRIAL, "worker_killed", "it died")]


def launched(end: Event, directory: Path, cache_dir: Path, show: Callable[[object], None]) -> None:
    store = Store(directory / "results")
    options = LaunchOptions(runtime=Runtime(cache_dir=cache_dir), retry_policy=RetryPolicy(retries=0))
    launch([grid_of([TRIAL])], store, FailingExecutor(store, end), options, show)


@pytest.mark.parametrize("end", FAILURES)
def test_what_a_launch_tells_of_a_failure_ends_its_run(end: Event, tmp_path: Path, cache_dir: Path) -> None:
    server = Server()
    with MLflowRuns("http://there", {}, pytest.fail, lambda _: server) as runs:
        launched(end, tmp_path, cache_dir, runs.show)
    assert server.lines[1:] == [(RUN, 1), (RUN, "FAILED")]


def test_runs_that_failed_are_opened_again_and_those_left_at_a_sudden_end_are_killed() -> None:
    server = Server()
    failed = Failed(TRIAL, "worker_killed", "it died", will_retry=True)
    told_mlflow(server, Progress(TRIAL, at(1)), failed, Progress(TRIAL, at(2)))
    assert server.lines[2:] == [
        (RUN, "FAILED"),
        ("open", "study", "lr 0.1, seed 7"),
        (RUN, 2),
        (RUN, "KILLED"),
    ]


def test_a_resumed_trial_goes_on_in_its_run_without_the_epochs_that_are_there() -> None:
    server = Server({TRIAL.trial_id: 3})
    told_mlflow(server, Progress(TRIAL, at(3)), Ended(TRIAL, "done", at(4)))
    assert server.lines[1:] == [(RUN, 4), (RUN, "FINISHED")]


def test_an_attempt_without_an_epoch_opens_no_run() -> None:
    server = Server()
    told_mlflow(server, Started(TRIAL), Ended(TRIAL, "busy"), Failed(TRIAL, "exception", "", False))
    assert server.lines == []


def test_a_server_that_is_down_is_one_line() -> None:
    warnings = told_mlflow(Server(is_down=True), Progress(TRIAL, at(1)), Ended(TRIAL, "done", at(2)))
    assert warnings == ["--mlflow http://there: is told no more: ConnectionError: server is down"]


@pytest.mark.filterwarnings("ignore")
def test_mlflow_itself_keeps_runs_as_we_mean_them(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="it is no part of what the tests need")
    pytest.importorskip("sqlalchemy", reason="mlflow-skinny has no store of its own")
    uri = f"sqlite:///{tmp_path}/runs.db"
    name = TrialName("study", "lr 0.1, seed 7")
    for last, status in ((2, "KILLED"), (4, "FINISHED")):
        server = MLflowServer(uri)
        run, logged = server.open(TRIAL, name)
        for epoch in range(logged + 1, last + 1):
            server.log(run, at(epoch, None if epoch == 1 else 0.5))
        server.close(run, status)
    client = mlflow.MlflowClient(uri)
    (found,) = client.search_runs([client.get_experiment_by_name("study").experiment_id])
    assert (found.info.run_name, found.info.status) == ("lr 0.1, seed 7", "FINISHED")
    assert (found.data.params["seed"], found.data.params["lr"]) == ("7", str(TRIAL.config.lr))
    assert [m.step for m in client.get_metric_history(run, "test_error")] == [2, 3, 4]
    assert server.open(TRIAL, name)[1] == 0, "a finished trial that is trained anew gets a run of its own"


# --- TensorBoard ---------------------------------------------------------------------------------


def scalars(place: Path) -> list[tuple[str, int]]:
    """Return what event files say, and `hparams` entries by their tags."""
    from tensorboardX.proto.event_pb2 import Event as Entry

    found = []
    for path in sorted(place.iterdir()):
        data, start = path.read_bytes(), 0
        while start < len(data):  # length, its checksum, the entry, its checksum
            (length,) = struct.unpack("<Q", data[start : start + 8])
            entry = Entry.FromString(data[start + 12 : start + 12 + length])
            found += [(value.tag, entry.step) for value in entry.summary.value]
            start += 16 + length
    return found


def test_epochs_are_written_while_a_trial_trains(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="it comes with Ray Tune")
    names = {TRIAL.trial_id: TrialName("study", "seed 7")}
    place = tmp_path / "events" / "study" / f"seed-7__{TRIAL.trial_id[:8]}"
    with EventFiles(tmp_path / "events", Store(tmp_path / "none"), names, pytest.fail) as files:
        files.show(Started(TRIAL))
        files.show(Progress(TRIAL, at(1)))
        files.show(Progress(TRIAL, at(1)))
        assert place.is_dir(), "before it has ended"
        files.show(Ended(TRIAL, "interrupted", at(2)))
        files.show(Started(TRIAL))
        files.show(Progress(TRIAL, at(3)))
        files.show(Ended(TRIAL, "done", at(3)))
    found = scalars(place)
    assert [step for tag, step in found if tag == "test_error"] == [1, 2, 3]
    assert {tag for tag, _ in found} >= {
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
        "lr",
        "train_loss",
    }
    assert b"batch_size" in next(place.iterdir()).read_bytes()


@pytest.mark.parametrize("end", FAILURES)
def test_event_files_of_a_failed_trial_are_closed(end: Event, tmp_path: Path, cache_dir: Path) -> None:
    pytest.importorskip("tensorboardX", reason="it comes with Ray Tune")
    with EventFiles(tmp_path / "events", Store(tmp_path / "none"), {}, pytest.fail) as files:
        launched(end, tmp_path, cache_dir, files.show)
        found = scalars(tmp_path / "events" / TRIAL.trial_id)  # all of it only once the file is closed
        assert [step for tag, step in found if tag == "test_error"] == [1]


def test_event_files_that_cannot_be_written_are_one_warning(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="it comes with Ray Tune")
    warnings: list[str] = []
    names = {TRIAL.trial_id: TrialName("study", "seed 7")}
    files = EventFiles(tmp_path / "events", Store(tmp_path / "none"), names, warnings.append)
    (tmp_path / "events" / "study").write_text("in the way")
    for epoch in (1, 2):
        files.show(Progress(TRIAL, at(epoch)))
    (warning,) = warnings
    assert "no more is written: " in warning
