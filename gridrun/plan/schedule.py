"""In which order trials start, and when the last of them ends. Arithmetic on estimates alone.

Trials start in the order of a list, each in the slot that is free first. Longest first comes close to the
shortest makespan there is (Graham, 1969), but it would start the last seeds of long rows before the first
seeds of short ones. So trials start by round: the first seed of every row before the second, and the
longest first within a round. A trial that would end too late if it waited for its round starts earlier.
As few as possible do, so that the makespan stays within 1 % of longest first.

This is the order at the start of a launch. `sweep/reschedule.py` updates it while trials run.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gridrun.resources import Capacity

T = TypeVar("T")

_LONGER = 1.01  # accepted makespan, relative to longest first
_DEADLINES = (math.inf, 1.0, 0.95, 0.9, 0.8, 0.0)
"""Deadlines to try, relative to the makespan of longest first. A trial that would miss the deadline starts
before its round: with inf none does, with 0 all do. The first that keeps to `_LONGER` is taken."""


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """Something to run."""

    what: T
    seconds: float
    """How long it takes; any unit will do if it is the same for all jobs."""
    round: float = 0
    """Jobs of a lower round are wanted earlier."""
    num_gpus: float = 1
    """Below 1: the part of a GPU that it shares with others."""


def ordered(jobs: Iterable[Job[T]], capacity: Capacity, running: Iterable[Job[T]] = ()) -> list[Job[T]]:
    """Return the jobs in the order in which to start them while `running` ones end.

    Jobs on more GPUs come first. Behind small jobs, a large one might never find its GPUs free at once.
    """
    busy = _seconds(running)
    return [
        job
        for size, group in _by_size(jobs)
        for job in _ordered(group, capacity.slots(size), busy.get(size, ()))
    ]


def makespan(jobs: Iterable[Job[T]], capacity: Capacity, running: Iterable[Job[T]] = ()) -> float:
    """Return when the last job ends, one size run at a time in this order. Infinite if a job fits nowhere."""
    seconds, busy = _seconds(jobs), _seconds(running)
    return sum(
        makespan_of(seconds.get(size, ()), capacity.slots(size), busy.get(size, ()))
        for size in {*seconds, *busy}
    )


def makespan_of(seconds: Sequence[float], slots: int, busy: Sequence[float] = ()) -> float:
    """Return when the last job ends if each starts, in this order, in the slot that is free first.

    `busy` says when the slots with running jobs become free.
    """
    free = _free(slots, busy)
    if not free:
        return math.inf if seconds else 0.0
    for duration in seconds:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def _free(slots: int, busy: Sequence[float]) -> list[float]:
    """Return when each slot is free, as a heap. Every running job has one, even if `slots` is smaller."""
    return sorted([*busy, *[0.0] * (slots - len(busy))])


def _by_size(jobs: Iterable[Job[T]]) -> list[tuple[float, list[Job[T]]]]:
    groups: dict[float, list[Job[T]]] = {}
    for job in jobs:
        groups.setdefault(job.num_gpus, []).append(job)
    return sorted(groups.items(), reverse=True)


def _seconds(jobs: Iterable[Job[T]]) -> dict[float, list[float]]:
    return {size: [job.seconds for job in group] for size, group in _by_size(jobs)}


def _ordered(jobs: Sequence[Job[T]], slots: int, busy: Sequence[float]) -> list[Job[T]]:
    by_round = sorted(jobs, key=lambda job: (job.round, -job.seconds))
    longest_first = sorted(by_round, key=lambda job: -job.seconds)
    shortest = makespan_of([job.seconds for job in longest_first], slots, busy)
    for relative in _DEADLINES if slots else ():
        deadline = relative * shortest if shortest else 0.0
        order = _to_deadline(by_round, longest_first, _free(slots, busy), deadline)
        if makespan_of([job.seconds for job in order], slots, busy) <= _LONGER * shortest:
            return order
    return by_round


def _to_deadline(
    by_round: Sequence[Job[T]], longest_first: Sequence[Job[T]], free: list[float], deadline: float
) -> list[Job[T]]:
    """Return the jobs by round, but start the longest job first whenever it could not wait any longer.

    It cannot wait if it would miss the deadline by starting in the next slot that becomes free. `free` says
    when each slot is free, as a heap.
    """
    next_jobs, long_jobs = iter(by_round), iter(longest_first)
    started: set[int] = set()
    order: list[Job[T]] = []
    next_job, longest = next(next_jobs), next(long_jobs)
    while len(order) < len(by_round):
        while id(next_job) in started:
            next_job = next(next_jobs)
        while id(longest) in started:
            longest = next(long_jobs)
        now = heapq.heappop(free)
        next_chance = min(now + next_job.seconds, free[0] if free else math.inf)
        job = longest if next_chance + longest.seconds > deadline else next_job
        started.add(id(job))
        order.append(job)
        heapq.heappush(free, now + job.seconds)
    return order
