"""The queue of trials: order, trials held by other launches, retries."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from gridrun.sweep import queue
from gridrun.sweep.queue import QueuedTrial, TrialQueue
from gridrun.sweep.retries import Retry
from gridrun.trial import Trial

TRIALS = [Trial(tiny.config(), seed) for seed in range(5)]
FIRST, SECOND, THIRD, *_ = TRIALS


def taken(trial_queue: TrialQueue) -> list[int]:
    """Return the seeds of all that can be taken now."""
    seeds = []
    while queued := trial_queue.take():
        seeds.append(queued.trial.seed)
    return seeds


def test_trials_are_taken_in_an_order_that_can_change() -> None:
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS))
    assert trial_queue.take() == QueuedTrial(FIRST)
    trial_queue.order(reversed(TRIALS))
    assert [queued.trial.seed for queued in trial_queue.waiting] == [4, 3, 2, 1]
    assert taken(trial_queue) == [4, 3, 2, 1]


def test_the_queue_is_over_when_all_trials_are_done() -> None:
    trial_queue = TrialQueue([QueuedTrial(FIRST)])
    trial_queue.take()
    assert trial_queue.take() is None
    assert not trial_queue.is_over(), "it may come back"
    trial_queue.put_back(FIRST, Retry("then", attempts=1))
    trial_queue.task_done(FIRST)
    assert trial_queue.take() == QueuedTrial(FIRST, Retry("then", attempts=1))
    trial_queue.task_done(FIRST)
    assert trial_queue.is_over()
    assert not trial_queue.left


def test_a_trial_put_back_is_taken_only_after_task_done() -> None:
    trial_queue = TrialQueue([QueuedTrial(FIRST)])
    trial_queue.take()
    trial_queue.put_back(FIRST)
    assert trial_queue.take() is None, "the launch has not handled its last end yet"
    trial_queue.task_done(FIRST)
    assert trial_queue.take() == QueuedTrial(FIRST)
    assert not trial_queue.is_over(), "it runs"
    trial_queue.put_off(FIRST)
    trial_queue.task_done(FIRST)
    assert trial_queue.left == (QueuedTrial(FIRST),)


def test_only_trials_that_fit_are_taken_and_waited_for() -> None:
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS[:2]))

    def fits(queued: QueuedTrial) -> bool:
        return queued.trial == SECOND

    assert trial_queue.take(fits) == QueuedTrial(SECOND)
    trial_queue.task_done(SECOND)
    assert trial_queue.is_over(fits)
    assert not trial_queue.is_over()


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the queue check for released trials at every call."""
    monkeypatch.setattr(queue, "_LOOK_SECONDS", 0.0)


def test_a_trial_held_by_another_launch_waits_until_it_is_free(looking: None) -> None:
    theirs = {FIRST, THIRD}
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS[:4]), is_free=lambda trial: trial not in theirs)
    assert trial_queue.take() == QueuedTrial(SECOND)
    trial_queue.put_off(SECOND)  # the other launch got it first
    trial_queue.task_done(SECOND)
    theirs.add(SECOND)
    assert not trial_queue.is_held_up()
    assert taken(trial_queue) == [3]
    trial_queue.task_done(TRIALS[3])
    assert trial_queue.is_over(), "for now"
    assert trial_queue.is_held_up()
    assert {queued.trial for queued in trial_queue.left} == theirs
    theirs.remove(THIRD)
    assert trial_queue.is_held_up(), "seen free once: a launch may still write the failure of a killed worker"
    assert not trial_queue.is_held_up()
    assert trial_queue.take() == QueuedTrial(THIRD)


def test_a_released_trial_goes_to_the_front(looking: None) -> None:
    theirs = {FIRST}
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS), is_free=lambda trial: trial not in theirs)
    assert trial_queue.take() == QueuedTrial(SECOND)
    theirs.clear()
    assert taken(trial_queue) == [2, 0, 3, 4]
    assert sorted(queued.trial.seed for queued in trial_queue.left) == [0, 1, 2, 3, 4]


def test_a_released_trial_is_looked_at_twice_a_second_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    now, looks = [1000.0], []

    def is_free(trial: Trial) -> bool:
        looks.append(trial)
        return len(looks) > 1

    monkeypatch.setattr(queue, "time", SimpleNamespace(monotonic=lambda: now[0]))
    trial_queue = TrialQueue([QueuedTrial(FIRST)], is_free=is_free)
    assert trial_queue.take() is None
    for _ in range(2):
        now[0] += 0.999
        assert trial_queue.take() is None
        now[0] += 0.001
        first = trial_queue.take()
    assert first == QueuedTrial(FIRST)


def test_a_trial_that_another_launch_finished_is_dropped() -> None:
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS[:2]), is_free=lambda trial: trial != FIRST)
    assert taken(trial_queue) == [1]
    trial_queue.drop(FIRST)
    assert [queued.trial for queued in trial_queue.left] == [SECOND]
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS[:3]))
    trial_queue.drop(SECOND)
    assert [queued.trial.seed for queued in trial_queue.waiting] == [0, 2]


def test_a_closed_queue_gives_out_nothing_and_wakes_waiters() -> None:
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS))
    trial_queue.take()
    waiting = threading.Thread(target=trial_queue.wait, args=(600,))
    waiting.start()
    while waiting.is_alive():
        trial_queue.close()
        waiting.join(0.01)
    assert trial_queue.take() is None
    assert trial_queue.is_over()
    assert len(trial_queue.left) == len(TRIALS)


@given(st.data())
def test_no_trial_is_lost_or_taken_twice(data: st.DataObject) -> None:
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS))
    out: list[Trial] = []
    back: list[Trial] = []  # and still out
    done: set[Trial] = set()
    for _ in range(data.draw(st.integers(0, 40))):
        match data.draw(st.sampled_from(["take", "end", "again", "settle", "order"])):
            case "take":
                if queued := trial_queue.take():
                    assert queued.trial not in out + back
                    out.append(queued.trial)
            case "order":
                trial_queue.order(data.draw(st.permutations(TRIALS)))
            case "settle" if back:
                trial_queue.task_done(back.pop())
            case "end" | "again" as what if out:
                trial = out.pop(data.draw(st.integers(0, len(out) - 1)))
                if what == "again":
                    trial_queue.put_back(trial)
                    back.append(trial)
                else:
                    done.add(trial)
                    trial_queue.task_done(trial)
    while back:
        trial_queue.task_done(back.pop())
    assert {queued.trial for queued in trial_queue.left} == set(TRIALS) - done
    assert len(trial_queue.left) == len(TRIALS) - len(done)
    assert trial_queue.is_over() == (len(done) == len(TRIALS))
