"""Who is next: order, what other launches hold, what comes back."""

from __future__ import annotations

import threading

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from gridrun import lineup as lines
from gridrun.lineup import Lineup, Turn
from gridrun.trial import Trial
from gridrun.worker import Retry

TRIALS = [Trial(tiny.config(), seed) for seed in range(5)]
FIRST, SECOND, THIRD, *_ = TRIALS


def taken(lineup: Lineup) -> list[int]:
    """Return the seeds of all that can be taken now."""
    seeds = []
    while turn := lineup.take():
        seeds.append(turn.trial.seed)
    return seeds


def test_what_waits_is_taken_in_order_until_that_changes() -> None:
    lineup = Lineup(map(Turn, TRIALS))
    assert lineup.take() == Turn(FIRST)
    lineup.order(reversed(TRIALS))
    assert [turn.trial.seed for turn in lineup.waiting] == [4, 3, 2, 1]
    assert taken(lineup) == [4, 3, 2, 1]


def test_it_is_over_when_all_turns_are_settled() -> None:
    lineup = Lineup([Turn(FIRST)])
    lineup.take()
    assert lineup.take() is None
    assert not lineup.is_over(), "it may come back"
    lineup.put_back(FIRST, Retry("then", attempts=1))
    lineup.settle(FIRST)
    assert lineup.take() == Turn(FIRST, Retry("then", attempts=1))
    lineup.settle(FIRST)
    assert lineup.is_over()
    assert not lineup.left


def test_what_comes_back_has_no_turn_before_its_last_is_settled() -> None:
    lineup = Lineup([Turn(FIRST)])
    lineup.take()
    lineup.put_back(FIRST)
    assert lineup.take() is None, "the launch has yet to do with what was"
    lineup.settle(FIRST)
    assert lineup.take() == Turn(FIRST)
    assert not lineup.is_over(), "it runs"
    lineup.put_off(FIRST)
    lineup.settle(FIRST)
    assert lineup.left == (Turn(FIRST),)


def test_only_what_fits_is_taken_and_waited_for() -> None:
    lineup = Lineup(map(Turn, TRIALS[:2]))

    def fits(turn: Turn) -> bool:
        return turn.trial == SECOND

    assert lineup.take(fits) == Turn(SECOND)
    lineup.settle(SECOND)
    assert lineup.is_over(fits)
    assert not lineup.is_over()


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a line-up look for what others let go of each time that it is asked."""
    monkeypatch.setattr(lines, "_LOOK_SECONDS", 0.0)


def test_what_another_launch_has_is_left_to_it_until_it_lets_go(looking: None) -> None:
    theirs = {FIRST, THIRD}
    lineup = Lineup(map(Turn, TRIALS[:4]), is_free=lambda trial: trial not in theirs)
    assert lineup.take() == Turn(SECOND)
    lineup.put_off(SECOND)  # taken by them in that very moment
    lineup.settle(SECOND)
    theirs.add(SECOND)
    assert not lineup.is_held_up()
    assert taken(lineup) == [3]
    lineup.settle(TRIALS[3])
    assert lineup.is_over(), "for now"
    assert lineup.is_held_up()
    assert {turn.trial for turn in lineup.left} == theirs
    theirs.remove(THIRD)
    assert lineup.is_held_up(), "whose worker was killed may have yet to say so"
    assert not lineup.is_held_up()
    assert lineup.take() == Turn(THIRD)


def test_what_another_launch_lets_go_of_comes_before_what_stood_behind_it(looking: None) -> None:
    theirs = {FIRST}
    lineup = Lineup(map(Turn, TRIALS), is_free=lambda trial: trial not in theirs)
    assert lineup.take() == Turn(SECOND)
    theirs.clear()
    assert taken(lineup) == [2, 0, 3, 4]


def test_what_another_launch_has_ended_is_dropped() -> None:
    lineup = Lineup(map(Turn, TRIALS[:2]), is_free=lambda trial: trial != FIRST)
    assert taken(lineup) == [1]
    lineup.drop(FIRST)
    assert [turn.trial for turn in lineup.left] == [SECOND]


def test_a_closed_line_hands_out_nothing_and_keeps_no_one_waiting() -> None:
    lineup = Lineup(map(Turn, TRIALS))
    lineup.take()
    waiting = threading.Thread(target=lineup.wait, args=(600,))
    waiting.start()
    while waiting.is_alive():
        lineup.close()
        waiting.join(0.01)
    assert lineup.take() is None
    assert lineup.is_over()
    assert len(lineup.left) == len(TRIALS)


@given(st.data())
def test_nobody_is_lost_and_nobody_has_two_turns_at_once(data: st.DataObject) -> None:
    lineup = Lineup(map(Turn, TRIALS))
    out: list[Trial] = []
    back: list[Trial] = []  # and still out
    done: set[Trial] = set()
    for _ in range(data.draw(st.integers(0, 40))):
        match data.draw(st.sampled_from(["take", "end", "again", "settle", "order"])):
            case "take":
                if turn := lineup.take():
                    assert turn.trial not in out + back
                    out.append(turn.trial)
            case "order":
                lineup.order(data.draw(st.permutations(TRIALS)))
            case "settle" if back:
                lineup.settle(back.pop())
            case "end" | "again" as what if out:
                trial = out.pop(data.draw(st.integers(0, len(out) - 1)))
                if what == "again":
                    lineup.put_back(trial)
                    back.append(trial)
                else:
                    done.add(trial)
                    lineup.settle(trial)
    while back:
        lineup.settle(back.pop())
    assert {turn.trial for turn in lineup.left} == set(TRIALS) - done
    assert len(lineup.left) == len(TRIALS) - len(done)
    assert lineup.is_over() == (len(done) == len(TRIALS))
