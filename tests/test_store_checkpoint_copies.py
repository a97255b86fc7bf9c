"""Checkpoints in a bucket or a directory that all machines reach."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from gridrun.errors import LaunchError
from gridrun.store import Store
from gridrun.store import checkpoint_copies as depots
from gridrun.store.checkpoint_copies import CheckpointCopies, copies_at
from gridrun.store.records import Provenance
from gridrun.sweep.retries import Retry, RetryPolicy
from gridrun.sweep.worker import Setup, run_trial
from gridrun.trial import Trial
from trainer import Runtime, checkpoint

ID = "0123456789abcdef"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Yield the URI of a bucket that a server of the test's own keeps in memory."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "nobody")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        server.start()
        host, port = server.get_host_and_port()
        query = f"scheme=http&region=us-east-1&endpoint_override={host}:{port}"
        CheckpointCopies(f"s3://sweeps?allow_bucket_creation=true&{query}").check()
        yield f"s3://sweeps/checkpoints?{query}"
        server.stop()


@pytest.fixture(params=["directory", "bucket"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "directory":
        return str(tmp_path / "checkpoints")
    bucket: str = request.getfixturevalue("bucket")
    return bucket


@pytest.fixture
def depot(uri: str) -> CheckpointCopies:
    depot = CheckpointCopies(uri)
    depot.check()
    return depot


def names(depot: CheckpointCopies) -> list[str]:
    from pyarrow.fs import FileSelector

    return [found.base_name for found in depot._system.get_file_info(FileSelector(depot._root))]


def test_what_is_kept_is_fetched_until_it_is_dropped(depot: CheckpointCopies, tmp_path: Path) -> None:
    here, there = tmp_path / "here.pt", tmp_path / "there.pt"
    depot.fetch(ID, there)
    assert not there.exists()
    for content in (b"first", b"second" * 1000):
        here.write_bytes(content)
        depot.keep(ID, here)
        depot.fetch(ID, there)
        assert there.read_bytes() == content
    assert names(depot) == [f"{ID}.pt"]
    depot.drop(ID)
    assert names(depot) == []
    there.write_text("mine")
    depot.fetch(ID, there)
    assert there.read_text() == "mine"


def test_what_a_killed_upload_left_goes_with_the_trial(depot: CheckpointCopies) -> None:
    with depot._system.open_output_stream(f"{depot._root}/{ID}.pt.0.partial") as file:
        file.write(b"half")
    with depot._system.open_output_stream(f"{depot._root}/fedcba9876543210.pt") as file:
        file.write(b"another's")
    depot.drop(ID)
    assert names(depot) == ["fedcba9876543210.pt"]
    depot.drop("fedcba9876543210")


def interrupt(trial: Trial, setup: Setup) -> None:
    """Have a trial leave its checkpoint after the first epoch."""

    def stop(epoch: object) -> None:
        setup.stop_file.touch()
        time.sleep(0.3)  # a trial looks for the file four times a second

    assert run_trial(trial, setup, stop) == "interrupted"


def interrupted_then_done(
    uri: str, tmp_path: Path, cache_dir: Path, between: str
) -> tuple[dict[str, object], dict[str, object]]:
    """Return the rows of a trial that moved to another machine, and of one that did not."""
    trial = Trial(tiny.config(epochs=6), 0)
    rows = []
    for name in ("moved", "straight"):
        results = tmp_path / name
        Store(results).create()
        setup = Setup(
            results=results,
            runtime=Runtime(cache_dir=cache_dir, data_dir=tmp_path, checkpoint_seconds=0),
            code=Provenance(),
            stop_file=results / "stop",
            checkpoints=uri if name == "moved" else None,
        )
        if name == "moved":
            interrupt(trial, setup)
            if between == "cut short":
                depot = copies_at(uri)
                file = results / "copy"
                depot.fetch(trial.trial_id, file)
                file.write_bytes(file.read_bytes()[:-1])
                depot.keep(trial.trial_id, file)
            elsewhere = tmp_path / "elsewhere"
            Store(elsewhere).create()
            setup = replace(setup, results=elsewhere, stop_file=elsewhere / "stop")
        assert run_trial(trial, setup, lambda epoch: None) == "done"
        rows.append(Store(setup.results).rows()[trial.trial_id])
    assert names(copies_at(uri)) == [], "a trial that is done leaves none"
    return rows[0], rows[1]


def test_a_trial_goes_on_on_another_machine(
    uri: str, depot: CheckpointCopies, tmp_path: Path, cache_dir: Path
) -> None:
    moved, straight = interrupted_then_done(uri, tmp_path, cache_dir, between="nothing")
    assert (moved["resumes"], straight["resumes"]) == (1, 0)
    assert (moved["test_loss"], moved["train_loss"]) == (straight["test_loss"], straight["train_loss"])


def test_a_checkpoint_that_was_cut_short_is_noticed(
    uri: str, depot: CheckpointCopies, tmp_path: Path, cache_dir: Path
) -> None:
    moved, straight = interrupted_then_done(uri, tmp_path, cache_dir, between="cut short")
    assert moved["resumes"] == 0
    assert "is damaged" in str(moved["notes"])
    assert moved["test_loss"] == straight["test_loss"]


def test_an_upload_that_fails_is_noted_and_the_trial_goes_on(tmp_path: Path, cache_dir: Path) -> None:
    Store(tmp_path / "results").create()
    CheckpointCopies(str(tmp_path / "gone")).check()
    setup = Setup(
        results=tmp_path / "results",
        runtime=Runtime(cache_dir=cache_dir, data_dir=tmp_path, checkpoint_seconds=0),
        code=Provenance(),
        stop_file=tmp_path / "stop",
        checkpoints=str(tmp_path / "gone"),
    )
    trial = Trial(tiny.config(), 0)
    assert run_trial(trial, setup, lambda epoch: shutil.rmtree(tmp_path / "gone", True)) == "done"
    assert "a checkpoint could not be saved" in Store(setup.results).rows()[trial.trial_id]["notes"]


def steps_of(path: Path) -> int | None:
    state = checkpoint.load(path)
    return state["step"] if state else None


@pytest.mark.parametrize(
    ("here", "there", "left"),
    [(None, 3, 3), (2, 3, 3), (3, 3, 3), (5, 3, 5), ("damaged", 3, 3), (5, "damaged", 5), (5, None, 5)],
)
def test_of_two_checkpoints_the_one_with_more_steps_counts(
    depot: CheckpointCopies, tmp_path: Path, here: int | str | None, there: int | str | None, left: int
) -> None:
    for name, steps in (("there", there), ("here", here)):
        path = tmp_path / name
        if isinstance(steps, int):
            checkpoint.save(path, {"step": steps, "file": name})
        elif steps:
            path.write_text(steps)
        if name == "there" and steps:
            depot.keep(ID, path)
    depot.fetch(ID, tmp_path / "here")
    assert steps_of(tmp_path / "here") == left
    assert not list(tmp_path.glob(".*"))
    depot.drop(ID)


class Away:
    """A file system whose server does not answer for a while."""

    def __init__(self, depot: CheckpointCopies, times: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.system, self.times, self.asked = depot._system, times, 0
        monkeypatch.setattr(depots, "_PAUSES_SECONDS", (0.01,) * 4)
        monkeypatch.setattr(depot, "_system", self)

    def __getattr__(self, name: str) -> object:
        return getattr(self.system, name)

    def get_file_info(self, what: object) -> object:
        self.asked += 1
        if self.asked <= self.times:
            raise OSError("When reading: AWS Error NETWORK_CONNECTION\nand more")
        return self.system.get_file_info(what)


def sweep_with_copies(tmp_path: Path, cache_dir: Path) -> tuple[Trial, Setup]:
    """Return a trial whose only checkpoint is a copy, and how to run it."""
    trial, place = Trial(tiny.config(epochs=6), 0), str(tmp_path / "copies")
    copies_at(place).check()
    results = tmp_path / "results"
    Store(results).create()
    setup = Setup(
        results=results,
        runtime=Runtime(cache_dir=cache_dir, data_dir=tmp_path, checkpoint_seconds=0),
        code=Provenance(),
        stop_file=results / "stop",
        checkpoints=place,
    )
    interrupt(trial, setup)
    setup.stop_file.unlink()
    Store(results).drop_checkpoint(trial.trial_id)
    return trial, setup


def test_a_place_that_is_away_for_a_moment_costs_no_training(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, setup = sweep_with_copies(tmp_path, cache_dir)
    Away(copies_at(str(setup.checkpoints)), 4, monkeypatch)
    assert run_trial(trial, setup, lambda epoch: None) == "done"
    assert Store(setup.results).rows()[trial.trial_id]["resumes"] == 1


def test_a_place_that_stays_away_fails_the_trial_for_now_and_trains_nothing_anew(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, setup = sweep_with_copies(tmp_path, cache_dir)
    away = Away(copies_at(str(setup.checkpoints)), float("inf"), monkeypatch)
    assert run_trial(trial, setup, lambda epoch: pytest.fail("it was trained")) == "failed"
    assert away.asked == 5
    row = Store(setup.results).rows()[trial.trial_id]
    assert (row["failure"], row["epochs_trained"]) == ("checkpoints", 0)
    assert row["error"].endswith(
        f"--checkpoints {setup.checkpoints}: When reading: AWS Error NETWORK_CONNECTION"
    )
    assert RetryPolicy().allows(row["failure"], attempts=2)
    away.times = 0
    retry = Retry(row["ended_at"], 1)
    assert run_trial(trial, setup, lambda epoch: None, retry=retry) == "done"
    assert Store(setup.results).rows()[trial.trial_id]["resumes"] == 1


def test_a_directory_that_is_not_mounted_is_not_taken_for_an_empty_one(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, setup = sweep_with_copies(tmp_path, cache_dir)
    monkeypatch.setattr(depots, "_PAUSES_SECONDS", ())
    (tmp_path / "copies").rename(tmp_path / "unmounted")
    assert run_trial(trial, setup, lambda epoch: None) == "failed"
    assert Store(setup.results).rows()[trial.trial_id]["failure"] == "checkpoints"


def test_a_trial_that_waits_for_its_copy_hears_that_it_is_to_stop(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, setup = sweep_with_copies(tmp_path, cache_dir)
    Away(copies_at(str(setup.checkpoints)), float("inf"), monkeypatch)
    monkeypatch.setattr(depots, "_PAUSES_SECONDS", (3600.0,))
    threading.Timer(0.5, setup.stop_file.touch).start()
    assert run_trial(trial, setup, lambda epoch: None) == "interrupted"
    assert Store(setup.results).statuses() == {}


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("s4://bucket", "s4"),
        (" ", "names no place"),
        ("s3://name:secret@bucket/path", "credentials belong in the environment"),
    ],
)
def test_a_place_that_is_none_is_named(uri: str, problem: str) -> None:
    with pytest.raises(LaunchError, match=problem) as error:
        CheckpointCopies(uri).check()
    assert "secret" not in str(error.value)


def test_a_place_that_cannot_be_written_is_named(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LaunchError, match="cannot be written to"):
        CheckpointCopies(str(tmp_path / "file" / "below")).check()
    with pytest.raises(LaunchError, match="cannot be written to"):
        CheckpointCopies(bucket.replace("s3://sweeps", "s3://nobodys")).check()
