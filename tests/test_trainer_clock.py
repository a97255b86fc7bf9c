"""Training time without pauses, with a clock of the system that is made up, and with a real pause."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tiny

from trainer import Runtime, clock, train

STOPPED = """
import time
from trainer import clock
clock.LATE_SECONDS = 1.0
ours, started = clock.Clock(), time.perf_counter()
begun = ours.now()
print("running", flush=True)
while not ours.paused_seconds and time.perf_counter() - started < 60:
    time.sleep(0.01)
print(ours.now() - begun, time.perf_counter() - started, ours.paused_seconds)
"""


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the system, in seconds; nothing but a test moves it."""
    now = [100.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    return now


def test_a_pause_is_left_out_and_a_slow_second_is_not(system: list[float]) -> None:
    ours = clock.Clock()
    assert ours.now() == 100.0
    for seconds in (0.5, 5.0, 0.5):
        system[0] += seconds
        ours.now()
    assert (ours.now(), ours.paused_seconds) == (106.0, 0.0)
    system[0] += 25.0
    assert (ours.now(), ours.paused_seconds) == (106.0, 25.0)
    system[0] += 1.0
    assert ours.now() == 107.0, "it goes on from there"


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_a_process_that_was_stopped_notices() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.6)
        process.send_signal(signal.SIGCONT)
        ours, systems, paused = map(float, process.stdout.read().split())
    assert 1.5 < paused < systems
    assert ours == pytest.approx(systems - paused, abs=0.1)


def test_a_clock_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "BEAT_SECONDS", 0.01)
    gc.collect()
    before = {thread for thread in threading.enumerate() if thread.name == "clock"}
    ours = clock.Clock()
    (thread,) = {thread for thread in threading.enumerate() if thread.name == "clock"} - before
    del ours
    thread.join(10)
    assert not thread.is_alive()


def test_a_trial_leaves_out_a_pause_and_says_so(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "LATE_SECONDS", 600.0)  # however busy this machine is
    runtime = Runtime(cache_dir=cache_dir, data_dir=tmp_path)
    usual = time.perf_counter
    straight = train(tiny.config(), seed=0, runtime=runtime)
    skipped = [0.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: usual() + skipped[0])

    def stop(step: int) -> None:
        skipped[0] = 1000.0 if step >= 4 else 0.0  # in the second epoch of three

    paused = train(
        tiny.config(), seed=0, runtime=Runtime(cache_dir=cache_dir, data_dir=tmp_path, on_step=stop)
    )
    assert tiny.figures(paused) == tiny.figures(straight)
    assert paused.train_seconds < 500
    assert paused.time_to_train_seconds is not None
    assert paused.time_to_train_seconds < 500
    assert straight.notes == ()
    (note,) = paused.notes
    assert note in ("stood still for 1000 s, which are not training time",)
