"""Checkpoints in a bucket or a directory that all machines reach."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from gridrun.depot import Depot, depot_at
from gridrun.errors import LaunchError
from gridrun.records import Provenance
from gridrun.store import Store
from gridrun.trial import Trial
from gridrun.worker import Setup, run_trial
from trainer import Runtime

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
        Depot(f"s3://sweeps?allow_bucket_creation=true&{query}").check()
        yield f"s3://sweeps/checkpoints?{query}"
        server.stop()


@pytest.fixture(params=["directory", "bucket"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "directory":
        return str(tmp_path / "checkpoints")
    bucket: str = request.getfixturevalue("bucket")
    return bucket


@pytest.fixture
def depot(uri: str) -> Depot:
    depot = Depot(uri)
    depot.check()
    return depot


def names(depot: Depot) -> list[str]:
    from pyarrow.fs import FileSelector

    return [found.base_name for found in depot._system.get_file_info(FileSelector(depot._root))]


def test_what_is_kept_is_fetched_until_it_is_dropped(depot: Depot, tmp_path: Path) -> None:
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


def test_what_a_killed_upload_left_goes_with_the_trial(depot: Depot) -> None:
    with depot._system.open_output_stream(f"{depot._root}/{ID}.pt.0.partial") as file:
        file.write(b"half")
    with depot._system.open_output_stream(f"{depot._root}/fedcba9876543210.pt") as file:
        file.write(b"another's")
    depot.drop(ID)
    assert names(depot) == ["fedcba9876543210.pt"]
    depot.drop("fedcba9876543210")


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

            def stop(epoch: object, file: Path = setup.stop_file) -> None:
                file.touch()
                time.sleep(0.3)  # a trial looks for the file four times a second

            assert run_trial(trial, setup, stop) == "interrupted"
            if between == "cut short":
                depot = depot_at(uri)
                file = results / "copy"
                depot.fetch(trial.trial_id, file)
                file.write_bytes(file.read_bytes()[:-1])
                depot.keep(trial.trial_id, file)
            elsewhere = tmp_path / "elsewhere"
            Store(elsewhere).create()
            setup = replace(setup, results=elsewhere, stop_file=elsewhere / "stop")
        assert run_trial(trial, setup, lambda epoch: None) == "done"
        rows.append(Store(setup.results).rows()[trial.trial_id])
    assert names(depot_at(uri)) == [], "a trial that is done leaves none"
    return rows[0], rows[1]


def test_a_trial_goes_on_on_another_machine(uri: str, depot: Depot, tmp_path: Path, cache_dir: Path) -> None:
    moved, straight = interrupted_then_done(uri, tmp_path, cache_dir, between="nothing")
    assert (moved["resumes"], straight["resumes"]) == (1, 0)
    assert (moved["test_loss"], moved["train_loss"]) == (straight["test_loss"], straight["train_loss"])


def test_a_checkpoint_that_was_cut_short_is_noticed(
    uri: str, depot: Depot, tmp_path: Path, cache_dir: Path
) -> None:
    moved, straight = interrupted_then_done(uri, tmp_path, cache_dir, between="cut short")
    assert moved["resumes"] == 0
    assert "is damaged" in str(moved["notes"])
    assert moved["test_loss"] == straight["test_loss"]


def test_an_upload_that_fails_is_noted_and_the_trial_goes_on(tmp_path: Path, cache_dir: Path) -> None:
    Store(tmp_path / "results").create()
    Depot(str(tmp_path / "gone")).check()
    setup = Setup(
        results=tmp_path / "results",
        runtime=Runtime(cache_dir=cache_dir, data_dir=tmp_path, checkpoint_seconds=0),
        code=Provenance(),
        stop_file=tmp_path / "stop",
        checkpoints=str(tmp_path / "gone"),
    )
    (tmp_path / "gone").rmdir()
    trial = Trial(tiny.config(), 0)
    assert run_trial(trial, setup, lambda epoch: None) == "done"
    assert "a checkpoint could not be saved" in Store(setup.results).rows()[trial.trial_id]["notes"]


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("s4://bucket", "s4"),
        ("s3://name:secret@bucket/path", "credentials belong in the environment"),
    ],
)
def test_a_place_that_is_none_is_named(uri: str, problem: str) -> None:
    with pytest.raises(LaunchError, match=problem) as error:
        Depot(uri).check()
    assert "secret" not in str(error.value)


def test_a_place_that_cannot_be_written_is_named(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LaunchError, match="cannot be written to"):
        Depot(str(tmp_path / "file" / "below")).check()
    with pytest.raises(LaunchError, match="cannot be written to"):
        Depot(bucket.replace("s3://sweeps", "s3://nobodys")).check()
