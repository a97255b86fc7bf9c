"""One contract, both executors."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
from broken import DyingNet, RaisingNet

from gridrun.errors import StoreError
from gridrun.executors.ray.tune import RayTuneExecutor
from gridrun.executors.serial import SerialExecutor
from gridrun.store import Store
from gridrun.store.records import Provenance
from gridrun.sweep.events import Ended, Event, Lost, Progress, Started, Stepped, Warned
from gridrun.sweep.executor import Executor
from gridrun.sweep.queue import QueuedTrial, TrialQueue
from gridrun.sweep.retries import Retry
from gridrun.sweep.worker import Setup, run_trial
from gridrun.trial import Trial
from trainer import Runtime

pytestmark = pytest.mark.long
TIMES = {
    "train_seconds",
    "time_to_train_seconds",
    "images_per_second",
    "peak_memory_mib",
    "energy_kwh",
    "started_at",
    "ended_at",
    "resumes",
}


@pytest.fixture(scope="module", params=["serial", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    made = SerialExecutor() if request.param == "serial" else RayTuneExecutor(cpus=2)
    with made as executor:
        yield executor


def make_setup(directory: Path, cache_dir: Path) -> Setup:
    Store(directory / "results").create()
    return Setup(
        results=directory / "results",
        runtime=Runtime(cache_dir=cache_dir, data_dir=directory),
        code=Provenance(commit="c" * 40),
        stop_file=directory / "stop",
    )


@pytest.fixture
def setup(tmp_path: Path, cache_dir: Path) -> Setup:
    return make_setup(tmp_path, cache_dir)


def run(executor: Executor, trials: list[Trial], setup: Setup) -> list[Event]:
    events: list[Event] = []
    executor.run(TrialQueue(map(QueuedTrial, trials)), setup, events.append)
    return events


def outcomes(events: list[Event]) -> dict[str, str]:
    ended = [event for event in events if isinstance(event, Ended)]
    assert len({event.trial.trial_id for event in ended}) == len(ended), "one Ended a trial"
    return {event.trial.trial_id: event.outcome for event in ended}


def numbers(row: dict[str, Any]) -> dict[str, Any]:
    """Return what of a row must be the same however it came about."""
    return {key: value for key, value in row.items() if key not in TIMES}


@dataclass(frozen=True)
class Mixed:
    """A run of trials that end in every way, then a second one on the same store."""

    setup: Setup
    events: list[Event]
    rows: dict[str, dict[str, Any]]
    again: list[Event]
    rows_again: dict[str, dict[str, Any]]


GOOD = [Trial(tiny.config(lr=lr), seed) for lr in (0.1, 0.2) for seed in range(3)]
RANDOM = [Trial(tiny.config(model=tiny.TinyNet(dropout=0.5)), seed) for seed in range(4)]
RAISING, RETRIED = (Trial(tiny.config(model=RaisingNet()), seed) for seed in range(2))
DIVERGING = Trial(tiny.config(lr=1e20), 0)
HELD = Trial(tiny.config(lr=0.3), 0)


@pytest.fixture(scope="module")
def mixed(executor: Executor, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Mixed:
    setup = make_setup(tmp_path_factory.mktemp("mixed"), cache_dir)
    store = Store(setup.results)
    with store.lock(HELD.trial_id) as held:
        assert held
        events = run(executor, [*GOOD, RAISING, HELD, *RANDOM, RETRIED, DIVERGING], setup)
    rows = store.rows()
    retry = Retry(rows[RETRIED.trial_id]["ended_at"], attempts=1)
    again: list[Event] = []
    queued = [QueuedTrial(GOOD[0]), QueuedTrial(RAISING), QueuedTrial(RETRIED, retry)]
    executor.run(TrialQueue(queued), setup, again.append)
    return Mixed(setup, events, rows, again, Store(setup.results).rows())


def test_every_trial_ends_once_and_is_in_the_store(mixed: Mixed) -> None:
    ended = outcomes(mixed.events)
    assert [ended.pop(trial.trial_id) for trial in (RAISING, RETRIED, HELD, DIVERGING)] == [
        *("failed", "failed"),
        *("busy", "diverged"),
    ]
    assert ended == {trial.trial_id: "done" for trial in (*GOOD, *RANDOM)}
    asked = [*GOOD, RAISING, HELD, *RANDOM, RETRIED, DIVERGING]
    started = [event.trial for event in mixed.events if isinstance(event, Started)]
    assert sorted(map(asked.index, started)) == list(range(len(asked)))
    assert all(abs(asked.index(trial) - place) <= 1 for place, trial in enumerate(started)), "in order"
    assert set(mixed.rows) == {trial.trial_id for trial in asked if trial != HELD}
    row = mixed.rows[GOOD[0].trial_id]
    assert row["commit"] == "c" * 40
    assert row["lr"] == 0.1
    assert (row["epochs_trained"], row["device"], row["threads"]) == (3, "cpu", 1)
    left = {path.name.split(".")[0] for path in mixed.setup.results.glob(".work/checkpoints/*")}
    assert left <= {RAISING.trial_id, RETRIED.trial_id}, "a retry would go on from there"
    assert not list(mixed.setup.results.glob(".work/leases/*"))


def test_a_used_worker_gives_the_numbers_of_a_fresh_one(mixed: Mixed, tmp_path: Path) -> None:
    alone = replace(mixed.setup, results=tmp_path / "alone")
    Store(alone.results).create()
    for trial in reversed(RANDOM):
        run_trial(trial, alone, lambda epoch: None)
    fresh = Store(alone.results).rows()
    assert {i: numbers(mixed.rows[i]) for i in fresh} == {i: numbers(row) for i, row in fresh.items()}
    assert len(fresh) == len(RANDOM)


def test_a_trial_that_raises_is_recorded(mixed: Mixed) -> None:
    row = mixed.rows[RAISING.trial_id]
    assert row["error"] == "ArithmeticError: no such network"
    assert "second line" in row["traceback"]
    assert "Traceback" in row["traceback"]


def test_a_diverging_trial_is_recorded_as_such(mixed: Mixed) -> None:
    row = mixed.rows[DIVERGING.trial_id]
    assert row["status"] == "diverged"
    assert row["test_error"] is None
    assert row["error"].startswith("non-finite loss in epoch")


def test_a_trial_that_has_ended_meanwhile_is_not_run_again(mixed: Mixed) -> None:
    ended = outcomes(mixed.again)
    assert (ended[GOOD[0].trial_id], ended[RAISING.trial_id]) == ("done", "failed")
    unchanged = mixed.rows.keys() - {RETRIED.trial_id}
    assert {i: mixed.rows_again[i] for i in unchanged} == {i: mixed.rows[i] for i in unchanged}


def test_what_failed_before_is_run_again_when_asked(mixed: Mixed) -> None:
    before, after = (rows[RETRIED.trial_id] for rows in (mixed.rows, mixed.rows_again))
    assert after["ended_at"] > before["ended_at"]
    assert (before["attempts"], after["attempts"]) == (1, 2)


def test_what_a_listener_raises_is_no_failure_of_the_trial(setup: Setup) -> None:
    trial = Trial(tiny.config(), 0)

    def full(event: Event) -> None:
        if isinstance(event, Progress):
            raise StoreError("no space")

    with pytest.raises(StoreError, match="no space"):
        SerialExecutor().run(TrialQueue(map(QueuedTrial, [trial])), setup, full)
    assert Store(setup.results).statuses() == {}
    assert outcomes(run(SerialExecutor(), [trial], setup)) == {trial.trial_id: "done"}


def test_progress_within_an_epoch_is_told(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridrun.sweep.worker._STEP_SECONDS", 0.0)
    trial = Trial(tiny.config(batch_size=8), 0)
    told = [event for event in run(SerialExecutor(), [trial], setup) if isinstance(event, Stepped)]
    assert [(event.epoch, event.part) for event in told[:4]] == [(0, 0), (0, 1 / 3), (0, 2 / 3), (1, 0)]


def test_a_trial_that_is_put_back_runs_again_while_others_still_do(executor: Executor, setup: Setup) -> None:
    bad = Trial(tiny.config(model=RaisingNet()), 0)
    others = [Trial(tiny.config(epochs=epochs), 0) for epochs in (3, 60)]
    trial_queue = TrialQueue(map(QueuedTrial, [bad, *others]))
    events: list[Event] = []

    def try_again(event: Event) -> None:
        events.append(event)
        if isinstance(event, Ended) and event.trial == bad:
            end = Store(setup.results).end(bad.trial_id)
            assert end
            assert end.attempts
            if end.attempts < 3:
                trial_queue.put_back(bad, Retry(end.ended_at, end.attempts))

    executor.run(trial_queue, setup, try_again)
    ended = [event.trial for event in events if isinstance(event, Ended)]
    assert sorted(map([bad, *others].index, ended)) == [0, 0, 0, 1, 2]
    assert Store(setup.results).rows()[bad.trial_id]["attempts"] == 3
    assert not trial_queue.left


def test_what_waits_may_be_reordered_until_it_is_taken(executor: Executor, setup: Setup) -> None:
    first = [Trial(tiny.config(epochs=30), seed) for seed in range(2)]
    others = [Trial(tiny.config(), seed) for seed in range(6)]
    trial_queue = TrialQueue(map(QueuedTrial, [*first, *others]))
    started: list[Trial] = []

    def turn_round(event: Event) -> None:
        if isinstance(event, Started):
            started.append(event.trial)
            trial_queue.order(reversed(others))

    executor.run(trial_queue, setup, turn_round)
    after = [others.index(trial) for trial in started if trial in others]
    assert all(abs(5 - seed - place) <= 1 for place, seed in enumerate(after)), "the last ones first"


def test_a_stop_saves_checkpoints_and_the_next_run_goes_on(
    executor: Executor, setup: Setup, tmp_path: Path
) -> None:
    trial = Trial(tiny.config(epochs=100), 0)
    later = Trial(tiny.config(epochs=101), 0)
    checkpoint = Store(setup.results).checkpoint(trial.trial_id)
    setup = replace(setup, runtime=replace(setup.runtime, checkpoint_seconds=0.02))
    events: list[Event] = []

    def stop_when_running() -> None:
        while not checkpoint.exists():
            time.sleep(0.01)
        setup.stop_file.touch()

    stopper = threading.Thread(target=stop_when_running)
    stopper.start()
    executor.run(TrialQueue(map(QueuedTrial, [trial])), setup, events.append)
    stopper.join()
    assert outcomes(events) == {trial.trial_id: "interrupted"}
    assert Store(setup.results).statuses() == {}
    assert checkpoint.exists()
    assert outcomes(run(executor, [later], setup)).get(later.trial_id, "interrupted") == "interrupted"

    setup.stop_file.unlink()
    assert outcomes(run(executor, [trial], setup)) == {trial.trial_id: "done"}
    alone = replace(setup, results=tmp_path / "alone")
    Store(alone.results).create()
    run_trial(trial, alone, lambda epoch: None)
    resumed, straight = (Store(s.results).rows()[trial.trial_id] for s in (setup, alone))
    assert numbers(resumed) == numbers(straight)
    assert (resumed["resumes"], straight["resumes"]) == (1, 0)


on_ray = pytest.mark.parametrize("executor", ["ray"], indirect=True)


@on_ray
def test_a_trial_whose_worker_dies_is_told_of_and_the_others_go_on(
    executor: Executor, setup: Setup, tmp_path: Path
) -> None:
    dying = Trial(tiny.config(model=DyingNet(log=str(tmp_path / "log"))), 0)
    other = Trial(tiny.config(), 0)
    events = run(executor, [dying, other], setup)
    lost = [event for event in events if isinstance(event, Lost)]
    assert [(event.trial, event.failure) for event in lost] == [(dying, "worker_killed")]
    assert outcomes(events) == {other.trial_id: "done"}
    assert (tmp_path / "log").read_text() == "x", "whether to try again is the launch's decision"


def test_no_trial_starts_once_there_are_to_be_no_more(executor: Executor, setup: Setup) -> None:
    trials = [Trial(tiny.config(), seed) for seed in range(20)]
    events: list[Event] = []

    def close_after_the_first(event: Event) -> None:
        events.append(event)
        if isinstance(event, Ended):
            setup.drain_file.touch()

    executor.run(TrialQueue(map(QueuedTrial, trials)), setup, close_after_the_first)
    ended = outcomes(events)
    assert 1 <= len(ended) <= 6
    assert {i for i, outcome in ended.items() if outcome == "done"} == set(Store(setup.results).statuses())
    assert not list(setup.results.glob(".work/checkpoints/*")), "those that ran went on to their end"


@on_ray
@pytest.mark.usefixtures("mixed")
def test_ray_refuses_who_does_not_have_the_token() -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    ask = f"from ray._raylet import GcsClient; GcsClient({address!r}).check_alive([], 30); print('answered')"
    no_token = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
    wrong_token = {**no_token, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with contextlib.ExitStack() as stack:
        friend, *strangers = (
            stack.enter_context(_killed(subprocess.Popen([sys.executable, "-c", ask], env=door, **pipes)))
            for door in (dict(os.environ), no_token, wrong_token)
        )
        assert friend.communicate()[0] == "answered\n", "with the token, the same question"
        for stranger in strangers:
            said = stranger.communicate()[0]
            assert "InvalidAuthToken" in said
            assert "answered" not in said


@pytest.mark.slow  # a whole `ray.init`, which tries for minutes
@on_ray
def test_nobody_joins_without_the_token(executor: Executor, setup: Setup) -> None:
    run(executor, [Trial(tiny.config(), 0)], setup)
    import ray

    address = ray.get_runtime_context().gcs_address
    join = f"import ray; ray.init(address={address!r}, log_to_driver=False); print('joined', flush=True)"
    no_token = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
    wrong_token = {**no_token, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        friend, *strangers = (
            stack.enter_context(_killed(subprocess.Popen([sys.executable, "-c", join], env=door, **QUIET)))
            for door in (dict(os.environ), no_token, wrong_token)
        )
        assert friend.communicate()[0] == "joined\n", "with the token it is the same command that works"
        time.sleep(time.monotonic() - started)  # as long again; with a wrong token Ray tries for minutes
        for stranger in strangers:
            stranger.kill()
            assert stranger.communicate()[0] == ""


QUIET: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}


@contextlib.contextmanager
def _killed(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that does not outlive the test."""
    with process:
        try:
            yield process
        finally:
            process.kill()


class _Played(RayTuneExecutor):
    """Has `play` in place of Tune: it takes turns and tells of events."""

    def __init__(self, play: Callable[..., None]) -> None:
        super().__init__()
        self.play = play

    def _begin(self, setup: Setup) -> None:
        pass

    def _found(self) -> tuple[float, float]:
        return 2.0, 0.0

    def _fit(self, trial_queue: TrialQueue, *about: Any) -> None:
        _, setup, events, _ = about
        self.play(trial_queue, setup, events)


def test_a_trial_that_is_turned_away_is_left_to_do(setup: Setup) -> None:
    last, late = Trial(tiny.config(), 0), Trial(tiny.config(), 1)

    def play(trial_queue: TrialQueue, setup: Setup, events: SimpleQueue[Event]) -> None:
        while turn := trial_queue.take():
            if turn.trial == last:
                events.put(Started(last))
        setup.stop_file.touch()
        while not trial_queue.is_over():
            trial_queue.wait(0.01)
        for event in (Started(late), Ended(late, "interrupted"), Ended(last, "done")):
            events.put(event)

    trial_queue, told = TrialQueue(map(QueuedTrial, (last, late))), list[Event]()
    _Played(play).run(trial_queue, setup, told.append)
    assert told == [Started(last), Ended(last, "done")]
    assert trial_queue.left == (QueuedTrial(late),)


def test_tune_waits_for_nothing_once_a_listener_has_raised(setup: Setup) -> None:
    tunes: list[threading.Thread] = []

    def play(trial_queue: TrialQueue, setup: Setup, events: SimpleQueue[Event]) -> None:
        tunes.append(threading.current_thread())
        trial_queue.take()
        events.put(Started(trial))
        while not trial_queue.is_over():
            trial_queue.wait(60.0)

    def listen(event: Event) -> None:
        raise OSError("the terminal is gone")

    trial = Trial(tiny.config(), 0)

    with pytest.raises(OSError, match="terminal"):
        _Played(play).run(TrialQueue([QueuedTrial(trial)]), setup, listen)
    tunes[0].join()


def test_trials_that_do_not_stop_are_named(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridrun.executors.ray.tune.STOP_SECONDS", 0.05)
    monkeypatch.setattr("gridrun.executors.ray.tune._TUNE_SECONDS", 0.05)
    trial, answered = Trial(tiny.config(), 0), threading.Event()

    def play(trial_queue: TrialQueue, setup: Setup, events: SimpleQueue[Event]) -> None:
        trial_queue.take()
        events.put(Started(trial))
        setup.stop_file.touch()
        answered.wait(60)

    trial_queue, told = TrialQueue([QueuedTrial(trial)]), list[Event]()
    _Played(play).run(trial_queue, setup, told.append)
    answered.set()
    started, warned = told
    assert started == Started(trial)
    assert isinstance(warned, Warned)
    assert warned.text.startswith(
        f"{trial.trial_id}: did not stop within 0.05 s, so their workers are killed"
    )
    assert trial_queue.left == (QueuedTrial(trial),), "the next launch goes on with it"


@on_ray
def test_the_token_is_no_process_argument_and_no_dashboard_runs(mixed: Mixed) -> None:
    token = os.environ["RAY_AUTH_TOKEN"]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert token.encode() not in process.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", 8265)) != 0


def test_what_fails_after_its_launch_was_killed_is_no_failure(setup: Setup) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    trial = Trial(tiny.config(model=RaisingNet()), 0)
    orphaned = replace(setup, driver_pid=int(dead.stdout), code=Provenance(host=platform.node()))
    assert run_trial(trial, orphaned, lambda epoch: None) == "interrupted"
    assert Store(setup.results).statuses() == {}
    alive = replace(orphaned, driver_pid=os.getpid())
    assert run_trial(trial, alive, lambda epoch: None) == "failed"


# --- lost workers ---------------------------------------------------------------------------------


def _lost_in(error: str) -> Exception:
    from ray import exceptions

    return {
        "out of memory": exceptions.OutOfMemoryError("the node was running low on memory"),
        "node died": exceptions.NodeDiedError("it is dead"),
        "preempted": exceptions.RayActorError(preempted=True),
        "raised at its start": exceptions.RayActorError(actor_init_failed=True),
        "raised": exceptions.RayTaskError("step", "Traceback", ValueError("no")),
        "killed": exceptions.RayActorError(),
    }[error]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ("out of memory", "host_memory"),
        ("node died", "node_lost"),
        ("preempted", "node_lost"),
        ("raised at its start", "exception"),
        ("raised", "exception"),
        ("killed", "worker_killed"),
    ],
)
def test_rays_errors_tell_the_kind_of_loss(error: str, failure: str) -> None:
    from gridrun.executors.ray.search import kind_of_loss

    assert kind_of_loss(_lost_in(error)) == failure


def test_the_reason_for_a_loss_is_one_line() -> None:
    from gridrun.executors.ray.search import reason_of_loss

    assert (
        reason_of_loss(_lost_in("killed"), "It died.\n  no space left\n")
        == "its worker died or could not start: no space left"
    )
    assert reason_of_loss(None, "") == "its worker died or could not start"


def test_when_tune_gives_up_one_trial_is_lost_and_the_others_are_put_back() -> None:
    from gridrun.executors.ray.search import EventCallback, QueueSearcher

    trials = [Trial(tiny.config(), seed) for seed in range(3)]
    first, second, _ = trials
    events: list[Any] = []
    searcher = QueueSearcher(TrialQueue([]), lambda queued: True, slots=3, ahead=0)
    callback = EventCallback(searcher, events.append)
    given_up = RuntimeError("Caught unexpected exception")
    given_up.__cause__ = _lost_in("out of memory")
    assert not callback.on_tune_failed(given_up), "no trial to blame"
    for number, trial in enumerate(trials):
        about = SimpleNamespace(trial_id=str(number), config={"trial": trial})
        callback.on_trial_start(0, [], about)
    callback.on_trial_result(0, [], about, {"epoch": None, "node": "n", "outcome": "done"})
    events.clear()
    assert not callback.on_tune_failed(RuntimeError("a bug"))
    assert callback.on_tune_failed(given_up)
    assert events[0] == Ended(first, "interrupted")
    assert (events[1].trial, events[1].failure) == (second, "host_memory")
    assert len(events) == 2, "the third had ended"


@pytest.mark.gpu
def test_gpu_trials_share_a_card(tmp_path: Path, cache_dir: Path) -> None:
    setup = make_setup(tmp_path, cache_dir)
    trials = [Trial(tiny.config(), seed) for seed in range(4)]
    with RayTuneExecutor(cpus=4, gpus=1, gpus_per_trial=0.5) as executor:
        events = run(executor, trials, setup)
    assert [event.outcome for event in events if isinstance(event, Ended)] == ["done"] * 4
    store = Store(setup.results)
    store.compact(now=True)
    rows = store.rows().values()
    assert {(row["gpu_share"], bool(row["gpu"])) for row in rows} == {(0.5, True)}
