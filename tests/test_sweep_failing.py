"""Failures: their kinds, which are retried, and when a launch stops because of them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
from broken import DyingInTrainingNet, DyingNet, FlakyNet, LosingNet, RaisingNet, SealingNet
from forks import CONTEXT

from gridrun import sweep
from gridrun.errors import LaunchError, StoreError
from gridrun.executors.ray.tune import RayTuneExecutor
from gridrun.executors.serial import SerialExecutor
from gridrun.grid import Grid, Row
from gridrun.store import Store
from gridrun.store.leases import kernel
from gridrun.sweep import Summary, presence
from gridrun.sweep.bookkeeper import LaunchEvent, OnEvent
from gridrun.sweep.events import Ended, Event
from gridrun.sweep.executor import Executor
from gridrun.sweep.options import LaunchOptions
from gridrun.sweep.queue import TrialQueue
from gridrun.sweep.retries import Failed, RetryPolicy, coarser, kind_of
from gridrun.sweep.worker import Setup
from gridrun.trial import Trial
from trainer import Runtime, TrainConfig, health

pytestmark = pytest.mark.long


def grid_of(*configs: TrainConfig, seeds: int = 1) -> Grid:
    return Grid(
        path=Path("grid.yaml"),
        name="grid",
        title="grid",
        description="",
        rows=tuple(Row(config, seeds=tuple(range(seeds))) for config in configs),
        seeds=tuple(range(seeds)),
        tables=(),
    )


class Sweeper:
    """Launches grids of broken networks on one store."""

    def __init__(self, directory: Path, cache_dir: Path) -> None:
        self.store = Store(directory / "results")
        self.runtime = Runtime(cache_dir=cache_dir, data_dir=directory, checkpoint_seconds=0)
        self.log = str(directory / "log")
        self.events: list[LaunchEvent] = []

    def launch(
        self,
        *configs: TrainConfig,
        executor: Executor | None = None,
        seeds: int = 1,
        retry: bool = False,
        close: bool = False,
        on_event: OnEvent | None = None,
        **policy: int,
    ) -> Summary:
        self.events.clear()
        return sweep.launch(
            [grid_of(*configs, seeds=seeds)],
            self.store,
            executor or SerialExecutor(gpus=0),
            LaunchOptions(
                runtime=self.runtime, retry=retry, retry_policy=RetryPolicy(**policy), close_executor=close
            ),
            on_event or self.events.append,
        )

    def row(self, config: TrainConfig) -> dict[str, Any]:
        trial_id = Trial(config, 0).trial_id
        return self.store.rows([trial_id])[trial_id]

    @property
    def failures(self) -> list[tuple[str | None, bool]]:
        return [(event.failure, event.will_retry) for event in self.events if isinstance(event, Failed)]

    @property
    def starts(self) -> int:
        return len(Path(self.log).read_text())


@pytest.fixture
def sweeper(tmp_path: Path, cache_dir: Path) -> Sweeper:
    return Sweeper(tmp_path, cache_dir)


@pytest.fixture(scope="module")
def ray() -> Iterator[Executor]:
    with RayTuneExecutor(cpus=2) as executor:
        yield executor


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ("RuntimeError", "exception"),
        ("DataError", "data"),
        ("torch.OutOfMemoryError", "gpu_memory"),
        ("of a rank", "gpu_memory"),
        ("rank killed", "worker_killed"),
        ("MemoryError", "host_memory"),
        ("DefaultCPUAllocator", "host_memory"),
    ],
)
def test_an_error_is_told_apart_by_what_raised_it(error: str, failure: str, sweeper: Sweeper) -> None:
    config = tiny.config(model=FlakyNet(log=sweeper.log, failures=99, error=error))
    summary = sweeper.launch(config, retries=0)
    row = sweeper.row(config)
    assert (row["status"], row["failure"], row["attempts"]) == ("failed", failure, 1)
    assert "Traceback" in row["traceback"]
    assert summary.plan.counts["failed"] == 1
    assert sweeper.failures == [(failure, False)]


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("CUDA error: out of memory", "gpu_memory"),
        ("CUDA ran out of memory outside PyTorch's allocator.", "gpu_memory"),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "gpu_memory"),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", "gpu_memory"),
        (
            "ncclUnhandledCudaError: Call to CUDA function failed.\nCuda failure 2 'out of memory'",
            "gpu_memory",
        ),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED", "host_memory"),
        ("CUDA error: device-side assert triggered", "exception"),
        ("FIND was unable to find an engine to execute this computation", "exception"),
    ],
)
def test_what_libraries_of_a_gpu_say_is_told_apart(text: str, failure: str) -> None:
    assert kind_of(RuntimeError(text)) == failure


def test_a_diverged_trial_is_retried_only_on_request(sweeper: Sweeper) -> None:
    config = tiny.config(lr=1e20)
    sweeper.launch(config, retries=5)
    row = sweeper.row(config)
    assert (row["status"], row["failure"], row["attempts"]) == ("diverged", "divergence", 1)
    sweeper.launch(config, retry=True)
    assert sweeper.row(config)["attempts"] == 2


def test_an_exception_is_retried_only_on_request(sweeper: Sweeper) -> None:
    config = tiny.config(model=FlakyNet(log=sweeper.log, failures=2))
    sweeper.launch(config)
    assert sweeper.failures == [("exception", False)]
    assert sweeper.launch(config).started == 0
    summary = sweeper.launch(config, retries=2)
    assert sweeper.failures == [("exception", True)], "the second of three attempts"
    assert summary.plan.counts["done"] == 1
    row = sweeper.row(config)
    assert (row["status"], row["attempts"], row["failure"], row["error"]) == ("done", 3, None, None)


def test_a_transient_failure_is_retried_twice_by_default(sweeper: Sweeper) -> None:
    config = tiny.config(model=FlakyNet(log=sweeper.log, failures=99, error="MemoryError"))
    sweeper.launch(config, tiny.config())
    assert sweeper.failures == [("host_memory", True), ("host_memory", True), ("host_memory", False)]
    assert (sweeper.starts, sweeper.row(config)["attempts"]) == (3, 3)
    assert sweeper.row(tiny.config())["status"] == "done"
    assert sweeper.launch(config).started == 0, "attempts count across launches"
    sweeper.launch(config, retries=3)
    assert sweeper.starts == 4
    sweeper.launch(config, retry=True)
    assert sweeper.starts == 4 + 3, "with retry=True earlier attempts do not count"


def test_a_failure_left_by_a_killed_launch_is_retried_by_the_next(sweeper: Sweeper) -> None:
    config = tiny.config(model=FlakyNet(log=sweeper.log, failures=2, error="MemoryError"))
    sweeper.launch(config, retries=0)  # as if the launch had been killed at that point
    assert sweeper.starts == 1
    summary = sweeper.launch(config)
    assert summary.plan.counts["done"] == 1
    assert sweeper.row(config)["attempts"] == 3


@pytest.fixture(scope="module")
def losses(ray: Executor, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Sweeper:
    """Return a launch in which one worker dies and another one loses its GPU."""
    sweeper = Sweeper(tmp_path_factory.mktemp("losses"), cache_dir)
    sweeper.launch(tiny.config(model=DyingInTrainingNet(log=sweeper.log)), *lossy(), executor=ray)
    return sweeper


def test_a_trial_whose_worker_dies_resumes_from_its_checkpoint(
    losses: Sweeper, tmp_path: Path, cache_dir: Path
) -> None:
    config = tiny.config(model=DyingInTrainingNet(log=losses.log))
    assert ("worker_killed", True) in losses.failures
    resumed = losses.row(config)
    assert resumed["status"] == "done"
    assert (resumed["attempts"], resumed["resumes"]) == (2, 1)
    straight = Sweeper(tmp_path / "straight", cache_dir)
    straight.launch(config)  # its worker has died once, so now it runs through
    for metric in ("test_error", "test_loss", "train_loss"):
        assert resumed[metric] == straight.row(config)[metric]


def lossy() -> tuple[TrainConfig, ...]:
    fine = (tiny.config(model=LosingNet(), lr=lr) for lr in (0.1, 0.2, 0.3, 0.4))
    return tiny.config(model=LosingNet(faulty=True)), *fine


def test_a_worker_that_has_lost_its_gpu_is_replaced(losses: Sweeper) -> None:
    assert [losses.row(config)["status"] for config in lossy()] == ["failed", *["done"] * 4]
    assert sorted(losses.failures) == [("exception", False), ("worker_killed", True)]
    assert [type(event).__name__ for event in losses.events].count("Ended") == 5, "and the failed one, once"


def test_a_lost_gpu_ends_a_serial_launch(sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "can_go_on", health.can_go_on)  # monkeypatch restores it
    with pytest.raises(LaunchError, match="has left CUDA unusable in this process"):
        sweeper.launch(*lossy())
    assert sweeper.row(lossy()[0])["error"] == "RuntimeError: CUDA error: unspecified launch failure"
    monkeypatch.undo()
    assert sweeper.launch(*lossy()).plan.counts == {"done": 4, "diverged": 0, "failed": 1, "missing": 0}


@pytest.mark.slow
def test_a_trial_that_kills_every_worker_stays_failed(sweeper: Sweeper, ray: Executor) -> None:
    dying = tiny.config(model=DyingNet(log=sweeper.log, deaths=99))
    summary = sweeper.launch(dying, tiny.config(), executor=ray)
    assert sweeper.failures == [("worker_killed", True), ("worker_killed", True), ("worker_killed", False)]
    assert (summary.plan.counts["failed"], summary.plan.counts["done"]) == (1, 1)
    row = sweeper.row(dying)
    assert (row["failure"], row["attempts"]) == ("worker_killed", 3)
    assert sweeper.launch(dying, executor=ray).started == 0, "not in the next launch either"
    assert sweeper.starts == 3


def test_a_launch_stops_after_failures_in_a_row(sweeper: Sweeper) -> None:
    bad = [tiny.config(model=RaisingNet(), lr=lr) for lr in (0.1, 0.2, 0.3, 0.4)]
    summary = sweeper.launch(*bad, stop_after_failures=3)
    assert summary.failed_in_a_row == 3
    assert (summary.plan.counts["failed"], summary.plan.counts["missing"]) == (3, 1)
    assert not list(sweeper.store.root.glob(".work/launches/*")), "no file stops the next launch"
    assert sweeper.launch(*bad).plan.counts["failed"] == 4


class _Outlasting(SerialExecutor):
    """Runs for so long that another launch would delete the files of this one, if it looked dead."""

    def __init__(self, store: Store) -> None:
        super().__init__(gpus=0)
        self.store = store

    def run(self, trial_queue: TrialQueue, setup: Setup, on_event: Callable[[Event], None]) -> None:
        super().run(trial_queue, setup, on_event)
        os.utime(setup.drain_file, (0, 0))
        for _ in range(1000):
            if setup.drain_file.stat().st_mtime:
                break
            time.sleep(0.01)
        self.store.launches.end("another")


def test_a_launch_that_gave_up_stays_stopped_when_another_one_tidies_up(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "_HEARTBEAT_SECONDS", 0.01)
    bad = [tiny.config(model=RaisingNet(), lr=lr) for lr in (0.1, 0.2, 0.3)]
    summary = sweeper.launch(*bad, executor=_Outlasting(sweeper.store), stop_after_failures=2)
    assert (summary.plan.counts["failed"], summary.plan.counts["missing"]) == (2, 1)


@pytest.mark.parametrize(("number", "interrupted"), [(1, True), (2, False)])
def test_a_stop_after_the_last_trial_is_no_interruption(
    number: int, interrupted: bool, sweeper: Sweeper, cache_dir: Path
) -> None:
    ended: list[Trial] = []

    def stop(event: LaunchEvent) -> None:
        if isinstance(event, Ended):
            ended.append(event.trial)
            if len(ended) == number:
                os.kill(os.getpid(), signal.SIGINT)

    summary = sweeper.launch(tiny.config(), seeds=2, on_event=stop)
    assert (summary.interrupted, summary.plan.counts["done"]) == (interrupted, number)


class _Stopped(SerialExecutor):
    """Gets `times` stop signals while it closes."""

    def __init__(self, times: int) -> None:
        super().__init__(gpus=0)
        self.times = times

    def close(self) -> None:
        for _ in range(self.times):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_second_stop_while_closing_ends_it(sweeper: Sweeper) -> None:
    summary = sweeper.launch(tiny.config(), executor=_Stopped(1), close=True)
    assert (summary.interrupted, summary.plan.counts["done"]) == (False, 1)
    with pytest.raises(KeyboardInterrupt):
        sweeper.launch(tiny.config(lr=0.2), executor=_Stopped(2), close=True)
    assert sweeper.row(tiny.config(lr=0.2))["status"] == "done"
    assert not list(sweeper.store.root.glob(".work/launches/*"))


class _Killing(SerialExecutor):
    """Kills a worker when it closes, which leaves its lock behind."""

    def __init__(self, store: Store) -> None:
        super().__init__(gpus=0)
        self.leases = store.root / ".work" / "leases"

    def close(self) -> None:
        lease = self.leases / f"{'0' * 16}.0"
        lease.write_text(json.dumps({"kernel": kernel(), "pid": 2**22 + 1, "started": 1}))


def test_leases_of_workers_killed_by_closing_are_cleared(sweeper: Sweeper) -> None:
    executor = _Killing(sweeper.store)
    sweeper.launch(tiny.config(), executor=executor, close=True)
    assert not list(executor.leases.iterdir())


def test_a_success_resets_the_count_of_failures(sweeper: Sweeper) -> None:
    bad = [tiny.config(model=RaisingNet(), lr=lr) for lr in (0.1, 0.2, 0.3, 0.4)]
    good = tiny.config()
    summary = sweeper.launch(*bad[:2], good, *bad[2:], stop_after_failures=3)
    assert not summary.failed_in_a_row
    assert (summary.plan.counts["failed"], summary.plan.counts["done"]) == (4, 1)


def test_repeated_failures_of_one_trial_count_once(sweeper: Sweeper) -> None:
    flaky = tiny.config(model=FlakyNet(log=sweeper.log, failures=3))
    summary = sweeper.launch(flaky, retries=3, stop_after_failures=2)
    assert not summary.failed_in_a_row
    assert summary.plan.counts["done"] == 1


def _sweep(directory: Path, cache_dir: Path, name: str, configs: Sequence[TrainConfig]) -> None:
    with SerialExecutor(gpus=0) if name == "serial" else RayTuneExecutor(cpus=1) as executor:
        Sweeper(directory, cache_dir).launch(*configs, executor=executor)


@pytest.mark.parametrize("name", ["serial", pytest.param("ray", marks=pytest.mark.slow)])
def test_two_launches_at_once_share_the_attempts_of_a_failing_trial(
    name: str, tmp_path: Path, cache_dir: Path
) -> None:
    logs = [tmp_path / f"log{number}" for number in range(3)]
    if name == "serial":
        failing = [FlakyNet(log=str(log), failures=99, error="MemoryError") for log in logs]
    else:
        failing = [DyingNet(log=str(log), deaths=99) for log in logs]
    bad = [tiny.config(model=model) for model in failing]
    good = [tiny.config(epochs=epochs) for epochs in (20, 21, 22)]
    arguments = (tmp_path, cache_dir, name, [*bad, *good])
    both = [CONTEXT.Process(target=_sweep, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    sweeper = Sweeper(tmp_path, cache_dir)
    assert {sweeper.row(config)["status"] for config in good} == {"done"}
    assert [sweeper.row(config)["attempts"] for config in bad] == [3, 3, 3]
    assert [len(log.read_text()) for log in logs] == [3, 3, 3]


@pytest.mark.parametrize(
    ("retries", "failure", "attempts", "again"),
    [
        (None, "worker_killed", 2, True),
        (None, "node_lost", 3, False),
        (None, "exception", 1, False),
        (None, "data", 1, False),
        (None, "gpu_memory", 1, False),
        (None, None, 1, False),  # of a record that does not say
        (1, "exception", 1, True),
        (1, "worker_killed", 2, False),
        (0, "worker_killed", 1, False),
        (9, "divergence", 1, False),
    ],
)
def test_the_retry_policy(retries: int | None, failure: Any, attempts: int, again: bool) -> None:
    assert RetryPolicy(retries).allows(failure, attempts) is again


def test_too_little_gpu_memory_is_retried_on_a_larger_share() -> None:
    policy = RetryPolicy(retries=0)
    assert policy.allows("gpu_memory", 4, gpu_share=0.25)
    assert not policy.allows("gpu_memory", 1, gpu_share=1)
    assert [coarser(share) for share in (0.125, 0.25, 1 / 3, 0.3, 0.5, 1)] == [0.25, 0.5, 1, 1, 1, 1]


@pytest.mark.parametrize("name", ["serial", "ray"])
def test_a_trial_whose_record_cannot_be_written_has_not_ended(
    name: str, sweeper: Sweeper, ray: Executor
) -> None:
    config = tiny.config(model=SealingNet(results=str(sweeper.store.root)))
    with pytest.raises(StoreError, match=r"results: cannot be written to \(Not a directory"):
        sweeper.launch(config, executor=ray if name == "ray" else None, retries=3)
    assert not [event for event in sweeper.events if isinstance(event, (Failed, Ended))]
    ended = sweeper.store.root / ".work" / "ended"
    ended.unlink()
    ended.with_name("aside").rename(ended)
    assert sweeper.store.statuses() == {}


def test_an_unwritable_drain_file_ends_the_launch(sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    config = tiny.config(model=RaisingNet())
    monkeypatch.setattr("trainer.files.touch", full)
    with pytest.raises(StoreError, match=r"cannot be written to \(No space left on device"):
        sweeper.launch(config, stop_after_failures=1)
    assert sweeper.store.statuses() == {Trial(config, 0).trial_id: "failed"}
