"""Who is next: order, what other launches hold, what comes back."""

from __future__ import annotations

import threading

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from gridrun.sweep import queue as lines
from gridrun.sweep.queue import QueuedTrial, TrialQueue
from gridrun.sweep.retries import Retry
from gridrun.trial import Trial

TRIALS = [Trial(tiny.config(), seed) for seed in range(5)]
FIRST, SECOND, THIRD, *_ = TRIALS


def taken(trial_queue: TrialQueue) -> list[int]:
    """Return the seeds of all that can be taken now."""
    seeds = []
    while turn := trial_queue.take():
        seeds.append(turn.trial.seed)
    return seeds


def test_what_waits_is_taken_in_order_until_that_changes() -> None:
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS))
    assert trial_queue.take() == QueuedTrial(FIRST)
    trial_queue.order(reversed(TRIALS))
    assert [turn.trial.seed for turn in trial_queue.waiting] == [4, 3, 2, 1]
    assert taken(trial_queue) == [4, 3, 2, 1]


def test_it_is_over_when_all_turns_are_settled() -> None:
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


def test_what_comes_back_has_no_turn_before_its_last_is_settled() -> None:
    trial_queue = TrialQueue([QueuedTrial(FIRST)])
    trial_queue.take()
    trial_queue.put_back(FIRST)
    assert trial_queue.take() is None, "the launch has yet to do with what was"
    trial_queue.task_done(FIRST)
    assert trial_queue.take() == QueuedTrial(FIRST)
    assert not trial_queue.is_over(), "it runs"
    trial_queue.put_off(FIRST)
    trial_queue.task_done(FIRST)
    assert trial_queue.left == (QueuedTrial(FIRST),)


def test_only_what_fits_is_taken_and_waited_for() -> None:
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS[:2]))

    def fits(turn: QueuedTrial) -> bool:
        return turn.trial == SECOND

    assert trial_queue.take(fits) == QueuedTrial(SECOND)
    trial_queue.task_done(SECOND)
    assert trial_queue.is_over(fits)
    assert not trial_queue.is_over()


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a line-up look for what others let go of each time that it is asked."""
    monkeypatch.setattr(lines, "_LOOK_SECONDS", 0.0)


def test_what_another_launch_has_is_left_to_it_until_it_lets_go(looking: None) -> None:
    theirs = {FIRST, THIRD}
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS[:4]), is_free=lambda trial: trial not in theirs)
    assert trial_queue.take() == QueuedTrial(SECOND)
    trial_queue.put_off(SECOND)  # taken by them in that very moment
    trial_queue.task_done(SECOND)
    theirs.add(SECOND)
    assert not trial_queue.is_held_up()
    assert taken(trial_queue) == [3]
    trial_queue.task_done(TRIALS[3])
    assert trial_queue.is_over(), "for now"
    assert trial_queue.is_held_up()
    assert {turn.trial for turn in trial_queue.left} == theirs
    theirs.remove(THIRD)
    assert trial_queue.is_held_up(), "whose worker was killed may have yet to say so"
    assert not trial_queue.is_held_up()
    assert trial_queue.take() == QueuedTrial(THIRD)


def test_what_another_launch_lets_go_of_comes_before_what_stood_behind_it(looking: None) -> None:
    theirs = {FIRST}
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS), is_free=lambda trial: trial not in theirs)
    assert trial_queue.take() == QueuedTrial(SECOND)
    theirs.clear()
    assert taken(trial_queue) == [2, 0, 3, 4]


def test_what_another_launch_has_ended_is_dropped() -> None:
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS[:2]), is_free=lambda trial: trial != FIRST)
    assert taken(trial_queue) == [1]
    trial_queue.drop(FIRST)
    assert [turn.trial for turn in trial_queue.left] == [SECOND]


def test_a_closed_line_hands_out_nothing_and_keeps_no_one_waiting() -> None:
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
def test_nobody_is_lost_and_nobody_has_two_turns_at_once(data: st.DataObject) -> None:
    trial_queue = TrialQueue(map(QueuedTrial, TRIALS))
    out: list[Trial] = []
    back: list[Trial] = []  # and still out
    done: set[Trial] = set()
    for _ in range(data.draw(st.integers(0, 40))):
        match data.draw(st.sampled_from(["take", "end", "again", "settle", "order"])):
            case "take":
                if turn := trial_queue.take():
                    assert turn.trial not in out + back
                    out.append(turn.trial)
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
    assert {turn.trial for turn in trial_queue.left} == set(TRIALS) - done
    assert len(trial_queue.left) == len(TRIALS) - len(done)
    assert trial_queue.is_over() == (len(done) == len(TRIALS))
