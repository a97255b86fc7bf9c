"""Joining a Ray cluster: tokens, nodes that come and go, and workers that do not see the results."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
from broken import RaisingNet

from gridrun.errors import LaunchError
from gridrun.executors.ray import remote_store, session
from gridrun.executors.ray.remote_store import StoreActor, StoreAddress, missing_data, run_anywhere
from gridrun.executors.ray.tune import RayTuneExecutor
from gridrun.grid import load_grid
from gridrun.store import Store
from gridrun.store.records import Provenance
from gridrun.sweep import launch
from gridrun.sweep.bookkeeper import LaunchEvent
from gridrun.sweep.events import Ended, Event, Outcome, Started, Warned
from gridrun.sweep.options import LaunchOptions
from gridrun.sweep.queue import QueuedTrial, TrialQueue
from gridrun.sweep.worker import Setup
from gridrun.trial import Trial
from trainer import Runtime
from trainer.initial_weights.file import File
from trainer.loop import ignore
from trainer.metrics import Epoch

TOKEN = session._TOKEN  # Ray reads the token once a process: perhaps in an earlier test


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    Store(tmp_path / "results").create()
    (tmp_path / "cache").mkdir()
    return Setup(
        results=tmp_path / "results",
        runtime=Runtime(cache_dir=tmp_path / "cache", data_dir=tmp_path, keep_checkpoint="last"),
        code=Provenance(),
        stop_file=tmp_path / "stop",
    )


def run(address: str, setup: Setup, *trials: Trial) -> None:
    with RayTuneExecutor(address=address) as executor:
        executor.run(
            TrialQueue(map(QueuedTrial, trials or [Trial(tiny.config(), 0)])), setup, lambda event: None
        )


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:port", "ray://head:10001/x"])
def test_an_address_is_a_host_and_a_port(address: str, setup: Setup) -> None:
    with pytest.raises(LaunchError, match="must be HOST:PORT"):
        run(address, setup)


def test_where_nothing_answers_that_is_said(setup: Setup) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(LaunchError, match=f"127.0.0.1:{port}: nothing answers there"):
            run(f"127.0.0.1:{port}", setup)


def test_what_is_no_ray_is_told_apart(setup: Setup) -> None:
    somebody = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with somebody.accept()[0] as caller:
            caller.sendall(b"SSH-2.0-somebody\r\n")
            caller.recv(1000)

    threading.Thread(target=answer, daemon=True).start()
    with somebody, pytest.raises(LaunchError, match="what answers there is not Ray"):
        run(f"127.0.0.1:{somebody.getsockname()[1]}", setup)


def test_what_a_cluster_has_is_not_chosen() -> None:
    with pytest.raises(LaunchError, match="--cpus and --gpus do not go with --address"):
        RayTuneExecutor(cpus=2, address="head:6379")


# --- workers that do not see the results, without Ray ---------------------------------------------


@pytest.fixture
def store_actor(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreActor]:
    """Be asked straight, not through Ray."""
    monkeypatch.setattr(remote_store, "_call", lambda method, *arguments: method(*arguments))
    store_actor = StoreActor(setup, "home-test")
    yield store_actor
    store_actor.close()
    assert not list(setup.results.glob(".work/l[eo]*/*"))


def run_remotely(
    trial: Trial, setup: Setup, store_actor: StoreActor, on_epoch: Callable[[Epoch], None] = ignore
) -> Outcome:
    return run_anywhere(StoreAddress("home-none", store_actor), trial, setup, on_epoch)


def test_a_worker_that_sees_the_marker_lock_uses_the_directory(setup: Setup, store_actor: StoreActor) -> None:
    trial = Trial(tiny.config(), 0)
    assert run_anywhere(StoreAddress("home-test", store_actor), trial, setup, ignore) == "done"
    assert not (setup.runtime.cache_dir / "away").exists()
    assert Store(setup.results).statuses() == {trial.trial_id: "done"}


def test_directories_that_may_not_be_looked_into_count_as_missing(
    setup: Setup, store_actor: StoreActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a home that is closed to the user that Ray runs as; root is not kept out of one."""
    monkeypatch.setenv("GRIDRUN_CACHE", str(setup.runtime.cache_dir))
    closed = Path("/", "closed" * 50)
    with pytest.raises(OSError, match="too long"):
        closed.is_dir()
    there = replace(setup, results=closed, runtime=replace(setup.runtime, cache_dir=closed, data_dir=closed))
    trial = Trial(tiny.config(), 0)
    assert missing_data(trial, there) is None
    assert run_anywhere(StoreAddress("home-test", store_actor), trial, there, ignore) == "done"
    assert Store(setup.results).statuses() == {trial.trial_id: "done"}


QUEUED = {"trial": Trial(tiny.config(), 0), "retry": None, "parent": None}


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module of Ray's workers, outside Ray."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # Ray keeps what it finds when Tune is imported
    from gridrun.executors.ray import worker

    monkeypatch.setattr(worker.ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=str))
    monkeypatch.setattr(worker.ray, "get_gpu_ids", list)
    return worker


def test_an_error_while_data_is_looked_for_is_reported(
    setup: Setup, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the worker would wait for its trial for ever."""

    def fail(*_: object) -> None:
        raise PermissionError("not for you")

    monkeypatch.setattr(worker, "missing_data", fail)
    trial_worker = worker.TrialWorker.__new__(worker.TrialWorker)
    address = StoreAddress("home-none", None)
    trial_worker.setup(QUEUED, setup=setup, progress_seconds=1.0, store_address=address)
    assert trial_worker.step()["node"] == ""
    with pytest.raises(PermissionError, match="not for you"):
        trial_worker.step()


def test_one_thread_trains_all_trials_of_a_worker(
    setup: Setup, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a trial that failed, and after an error beside the trial."""
    threads: list[int] = []

    def run(trial: Trial, *_: object, **__: object) -> Outcome:
        threads.append(threading.get_ident())
        if len(threads) == 2:
            raise MemoryError("too large")
        return "failed" if len(threads) == 3 else "done"

    def cannot_tell(device: str) -> bool:
        raise ArithmeticError("cannot tell")

    monkeypatch.setattr(worker, "run_trial", run)
    monkeypatch.setattr("trainer.health.can_go_on", cannot_tell)
    trial_worker = worker.TrialWorker.__new__(worker.TrialWorker)
    trial_worker.setup(QUEUED, setup=setup, progress_seconds=1.0, store_address=None)
    assert trial_worker.step()["done"]
    for error in (MemoryError, ArithmeticError):
        assert trial_worker.reset_config(QUEUED)
        with pytest.raises(error):
            trial_worker.step()
    assert trial_worker.reset_config(QUEUED)
    assert trial_worker.step()["outcome"] == "done"
    assert len(threads) == 4
    assert set(threads) != {threading.get_ident()}
    assert len(set(threads)) == 1


def test_a_record_is_kept_even_where_the_weights_find_no_place(setup: Setup, store_actor: StoreActor) -> None:
    trial = Trial(tiny.config(), 0)
    Store(setup.results).weights_path(trial.trial_id).parent.touch()
    assert run_remotely(trial, setup, store_actor) == "done"
    row = Store(setup.results).rows()[trial.trial_id]
    assert (row["status"], row["checkpoint"]) == ("done", None)
    assert row["notes"] == "the weights could not be kept: File exists"


def test_a_remote_trial_is_recorded_with_its_weights(setup: Setup, store_actor: StoreActor) -> None:
    trial, bad = Trial(tiny.config(), 0), Trial(tiny.config(model=RaisingNet()), 0)
    store = Store(setup.results)
    assert run_remotely(trial, setup, store_actor) == "done"
    assert run_remotely(bad, setup, store_actor) == "failed"
    assert store.statuses() == {trial.trial_id: "done", bad.trial_id: "failed"}
    assert store.weights_path(trial.trial_id).stat().st_size > 0
    with store.lock(trial.trial_id) as claim:
        assert claim, "it was given back"
    before = store.rows()
    assert run_remotely(trial, setup, store_actor) == "done", "and is not trained again"
    assert store.rows() == before
    away = list((setup.runtime.cache_dir / "away").rglob("*.pt"))
    assert not away


def test_a_trial_that_another_launch_has_is_left_to_it(setup: Setup, store_actor: StoreActor) -> None:
    trial = Trial(tiny.config(), 0)
    with Store(setup.results).lock(trial.trial_id):
        assert run_remotely(trial, setup, store_actor) == "busy"
    assert Store(setup.results).statuses() == {}


def test_a_worker_that_was_replaced_records_nothing(setup: Setup, store_actor: StoreActor) -> None:
    trial = Trial(tiny.config(), 0)
    assert (
        run_remotely(trial, setup, store_actor, lambda epoch: str(store_actor.claim(trial.trial_id)))
        == "busy"
    )
    assert Store(setup.results).statuses() == {}
    assert Store(setup.results).is_locked(trial.trial_id), "the other worker has it"
    store_actor.release_all()
    assert not Store(setup.results).is_locked(trial.trial_id)


def test_a_worker_that_is_replaced_at_the_last_moment_has_not_failed(
    setup: Setup, store_actor: StoreActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, add = Trial(tiny.config(model=RaisingNet()), 0), store_actor.add

    def replaced(*about: Any) -> bool:
        store_actor.claim(trial.trial_id)
        return add(*about)

    monkeypatch.setattr(store_actor, "add", replaced)
    assert run_remotely(trial, setup, store_actor) == "busy"
    assert Store(setup.results).statuses() == {}
    store_actor.release_all()


def test_a_stop_reaches_a_remote_trial_and_it_resumes_later(setup: Setup, store_actor: StoreActor) -> None:
    trial = Trial(tiny.config(epochs=100_000), 0)
    assert run_remotely(trial, setup, store_actor, lambda epoch: setup.stop_file.touch()) == "interrupted"
    assert list((setup.runtime.cache_dir / "away").rglob(f"{trial.trial_id}.pt"))
    assert run_remotely(trial, setup, store_actor) == "interrupted", "none starts"
    setup.stop_file.unlink()
    first: list[int] = []

    def stop(epoch: Epoch) -> None:
        first.append(epoch.epoch)
        setup.stop_file.touch()

    assert run_remotely(trial, setup, store_actor, stop) == "interrupted"
    assert first[0] > 1


def test_a_machine_says_which_data_it_misses(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(tiny.config(dataset=tiny.ElsewhereImages()), 0)
    monkeypatch.setenv("WITHOUT_IMAGES", "1")
    assert "is not here" in str(missing_data(trial, setup))
    monkeypatch.delenv("WITHOUT_IMAGES")
    assert missing_data(trial, setup) is None
    tuned = Trial(tiny.config(init_from=File(sha256="0" * 64)), 0)
    assert str(missing_data(tuned, setup)).endswith("has sha256 " + "0" * 64 + ": none is there")


# --- a cluster of three nodes on this machine -----------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_MODE", "token")
        environment.setenv("RAY_AUTH_TOKEN", TOKEN)
        environment.setenv("PYTHONPATH", str(Path(__file__).parent))
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("GRIDRUN_CACHE", str(tmp_path_factory.mktemp("cache")))
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        cluster.spec = node
        cluster.others = [cluster.add_node(**node) for _ in range(2)]
        try:
            yield cluster
        finally:
            cluster.shutdown()


def launched(address: str, results: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Launch a grid on a cluster, as a user without a token but what `environment` says."""
    usual = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    arguments = ["launch", "grids/quickstart.yaml", "--address", address, "--results", str(results)]
    return subprocess.run(
        [sys.executable, "cli.py", *arguments],
        cwd=Path(__file__).parent.parent,
        env={**usual, "HOME": str(results.parent), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, "or there is no token here"),
        ({"RAY_AUTH_TOKEN": "b" * 64}, "refuses the token"),
        ({"RAY_AUTH_TOKEN_PATH": "/no/such/file"}, "or there is no token here"),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": TOKEN}, "refuses the token"),
    ],
)
def test_a_wrong_token_is_refused_in_a_line(
    cluster: Any, tmp_path: Path, environment: dict[str, str], problem: str
) -> None:
    done = launched(cluster.address, tmp_path / "results", **environment)
    assert done.returncode == 2
    assert problem in done.stderr
    assert "RAY_AUTH_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("sees_results", [True, False])
def test_trials_are_recorded_wherever_they_ran(cluster: Any, setup: Setup, sees_results: bool) -> None:
    good, bad = Trial(tiny.config(), 0), Trial(tiny.config(model=RaisingNet()), 0)
    busy = Trial(tiny.config(), 1)
    long = Trial(tiny.config(epochs=30_000), 0)
    store = Store(setup.results)
    events: list[Event] = []

    def stop_when_running() -> None:
        while not any(isinstance(event, Started) and event.trial == long for event in events):
            time.sleep(0.05)
        while not store.is_locked(long.trial_id):
            time.sleep(0.05)
        setup.stop_file.touch()

    with RayTuneExecutor(address=cluster.address) as executor:
        executor._begin(setup)
        assert executor._store_address
        if not sees_results:
            executor._store_address = replace(executor._store_address, marker_lock="home-none")
        with store.lock(busy.trial_id):
            executor.run(TrialQueue(map(QueuedTrial, [good, bad, busy])), setup, events.append)
        ended = {event.trial: event.outcome for event in events if isinstance(event, Ended)}
        assert ended == {good: "done", bad: "failed", busy: "busy"}
        assert store.statuses() == {good.trial_id: "done", bad.trial_id: "failed"}
        assert store.rows()[good.trial_id]["checkpoint"] == "last"
        assert store.weights_path(good.trial_id).stat().st_size > 0
        assert not store.is_locked(good.trial_id)

        stopper = threading.Thread(target=stop_when_running)
        stopper.start()
        executor.run(TrialQueue(map(QueuedTrial, [long])), setup, events.append)
        stopper.join()
        assert [e.outcome for e in events if isinstance(e, Ended) and e.trial == long] == ["interrupted"]
        assert store.checkpoint(long.trial_id).exists() == sees_results
    assert not list(setup.results.glob(".work/leases/*"))


GRID = """
base: {model: {name: resnet_preact, depth: 8, initial_channels: 4}, epochs: 3}
seeds: 8
"""


@pytest.mark.slow
def test_a_sweep_outlives_a_node_that_goes_and_takes_one_that_comes(
    cluster: Any, setup: Setup, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.yaml").write_text(GRID)
    events: list[LaunchEvent] = []

    def note(event: LaunchEvent) -> None:
        events.append(event)
        if cluster.others and any(isinstance(event, Ended) for event in events):
            cluster.remove_node(cluster.others.pop(), allow_graceful=False)
            cluster.others.clear()
            cluster.add_node(**cluster.spec)

    store = Store(setup.results)
    with RayTuneExecutor(address=cluster.address) as executor:
        grid = load_grid(tmp_path / "small.yaml")
        summary = launch([grid], store, executor, LaunchOptions(runtime=setup.runtime), note)
    assert set(summary.plan.status.values()) == {"done"}
    done = [event.trial for event in events if isinstance(event, Ended) and event.outcome == "done"]
    assert len(done) == len(set(done)) == 8, "each is trained to its end once"
    rows = Store(setup.results).rows()
    assert sorted(row["seed"] for row in rows.values()) == list(range(8))
    assert "aylet" not in capfd.readouterr().out, "Ray says nothing on stdout"


@pytest.mark.slow
def test_a_machine_without_the_data_fails_no_trial(cluster: Any, setup: Setup, tmp_path: Path) -> None:
    nowhere = replace(setup.runtime, data_dir=tmp_path / "none", cache_dir=tmp_path / "none")
    without = {"WITHOUT_IMAGES": "1", "GRIDRUN_CACHE": str(tmp_path / "empty")}
    node = cluster.add_node(**cluster.spec, env_vars=without)
    trials = [Trial(tiny.config(dataset=tiny.ElsewhereImages(), epochs=300), seed) for seed in range(12)]
    events: list[Event] = []
    try:
        with RayTuneExecutor(address=cluster.address) as executor:
            trial_queue = TrialQueue(map(QueuedTrial, trials))

            def note(event: Event) -> None:
                events.append(event)
                if isinstance(event, Ended) and event.outcome == "busy":
                    trial_queue.put_off(event.trial)

            executor.run(trial_queue, replace(setup, runtime=nowhere), note)
    finally:
        cluster.remove_node(node)
    assert sum(isinstance(event, Ended) and event.outcome == "busy" for event in events) >= 1
    (warning,) = [event.text for event in events if isinstance(event, Warned)]
    assert "'elsewhere_images' is not here. Other machines take its trials" in warning
    rows = Store(setup.results).rows()
    assert {row["status"] for row in rows.values()} == {"done"}
    assert {row["attempts"] for row in rows.values()} == {1}
    assert len(rows) == 12


@pytest.mark.slow
def test_no_token_is_in_the_arguments_or_logs_of_a_cluster(cluster: Any, setup: Setup) -> None:
    run(cluster.address, setup)
    token = os.environ["RAY_AUTH_TOKEN"].encode()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert token not in process.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
    session = Path(cluster.head_node.get_session_dir_path())
    logs = [path for path in (session / "logs").rglob("*") if path.is_file()]
    assert logs
    assert not [path for path in logs if token in path.read_bytes()]
