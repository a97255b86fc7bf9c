"""In which order trials start, and when the last of them ends. Pure arithmetic on estimates.

Trials start in a list's order, each where there is room first. Longest first comes close to the
shortest makespan there is (Graham, 1969), but fills a table's last seeds before its first ones.
So the first seed of every row comes before the second, the longest first among equals, and trials
that would end too late if they waited any longer are drawn forward: as few as keep the makespan
within a hundredth of that of longest first.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gridrun.resources import Capacity

T = TypeVar("T")

_LONGER = 1.01
"""Makespan that seeds first may cost, over that of longest first."""
_AIMS = (math.inf, 1.0, 0.95, 0.9, 0.8, 0.0)
"""When a trial must end not to be drawn forward, over the makespan of longest first. From seeds first
alone to longest first alone: the mildest that does is taken."""


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """Something to run."""

    what: T
    seconds: float
    """How long it takes, in any unit that is the same for all."""
    turn: float = 0
    """Jobs of a lower turn are wanted earlier."""
    num_gpus: float = 1
    """Below 1: the part of one that it shares with others."""


def ordered(jobs: Iterable[Job[T]], capacity: Capacity, running: Iterable[Job[T]] = ()) -> list[Job[T]]:
    """Return the jobs in the order in which they are to start, beside what is left of those that run.

    Jobs on several GPUs come first, those on most before all: beside small jobs a large one might wait
    for ever for its GPUs to be free at once.
    """
    busy = _seconds(running)
    return [
        job
        for size, group in _by_size(jobs)
        for job in _ordered(group, capacity.slots(size), busy.get(size, ()))
    ]


def makespan(jobs: Iterable[Job[T]], capacity: Capacity, running: Iterable[Job[T]] = ()) -> float:
    """Return when the last job ends, if they start in this order; no two sizes run at once.

    Infinite, if one fits nowhere.
    """
    seconds, busy = _seconds(jobs), _seconds(running)
    return sum(
        makespan_of(seconds.get(size, ()), capacity.slots(size), busy.get(size, ()))
        for size in {*seconds, *busy}
    )


def makespan_of(seconds: Sequence[float], slots: int, busy: Sequence[float] = ()) -> float:
    """Return when the last of some jobs ends that start in this order, each in the slot free first.

    Args:
        seconds: how long each takes.
        slots: how many run side by side.
        busy: when those slots are free again in which something runs already.
    """
    free = _free(slots, busy)
    if not free:
        return math.inf if seconds else 0.0
    for duration in seconds:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def _free(slots: int, busy: Sequence[float]) -> list[float]:
    """Return when each slot is free, as a heap. What runs has a slot, even if there should be fewer."""
    free = [*busy, *[0.0] * (slots - len(busy))]
    heapq.heapify(free)
    return free


def lower_bound(seconds: Sequence[float], slots: int) -> float:
    """Return what no order can beat: all slots busy to the end, or the longest job alone."""
    return max(sum(seconds) / slots, max(seconds, default=0.0))


def _by_size(jobs: Iterable[Job[T]]) -> list[tuple[float, list[Job[T]]]]:
    groups: dict[float, list[Job[T]]] = {}
    for job in jobs:
        groups.setdefault(job.num_gpus, []).append(job)
    return sorted(groups.items(), reverse=True)


def _seconds(jobs: Iterable[Job[T]]) -> dict[float, list[float]]:
    return {size: [job.seconds for job in group] for size, group in _by_size(jobs)}


def _ordered(jobs: Sequence[Job[T]], slots: int, busy: Sequence[float]) -> list[Job[T]]:
    in_turn = sorted(jobs, key=lambda job: (job.turn, -job.seconds))
    longest_first = sorted(in_turn, key=lambda job: -job.seconds)
    shortest = makespan_of([job.seconds for job in longest_first], slots, busy)
    for aim in _AIMS if slots else ():
        aim_seconds = aim * shortest if shortest else 0.0
        order = _drawn_forward(in_turn, longest_first, _free(slots, busy), aim_seconds)
        if makespan_of([job.seconds for job in order], slots, busy) <= _LONGER * shortest:
            return order
    return in_turn


def _drawn_forward(
    in_turn: Sequence[Job[T]], longest_first: Sequence[Job[T]], free: list[float], aim: float
) -> list[Job[T]]:
    """Return the jobs in turn, but each in time to end at `aim` that could not if it waited once more.

    `free` says when each slot is free.
    """
    queue, long = iter(in_turn), iter(longest_first)
    started: set[int] = set()
    order: list[Job[T]] = []
    next_in_turn, longest = next(queue), next(long)
    while len(order) < len(in_turn):
        while id(next_in_turn) in started:
            next_in_turn = next(queue)
        while id(longest) in started:
            longest = next(long)
        now = heapq.heappop(free)
        next_chance = min(now + next_in_turn.seconds, free[0] if free else math.inf)
        job = longest if next_chance + longest.seconds > aim else next_in_turn
        started.add(id(job))
        order.append(job)
        heapq.heappush(free, now + job.seconds)
    return order
