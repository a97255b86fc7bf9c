"""The order of trials, and how long they take side by side."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.makespan import lower_bound
from gridrun import resources
from gridrun.plan.schedule import Job, makespan, makespan_of, ordered
from gridrun.resources import Capacity

TWO_CORES = Capacity(cpus=2, gpus=0)
SECONDS = st.floats(0.1, 1000, allow_nan=False)
JOBS = st.lists(
    st.builds(
        Job,
        what=st.integers(),
        seconds=SECONDS,
        round=st.integers(0, 4),
        num_gpus=st.sampled_from([1, 1, 1, 2]),
    ),
    max_size=40,
)


def cores(number: int) -> Capacity:
    return Capacity(cpus=number, gpus=0)


def names(jobs: list[Job[str]]) -> str:
    return "".join(job.what for job in jobs)


def test_the_first_seed_of_every_row_comes_first_and_the_longest_of_each_round() -> None:
    jobs = [
        Job(f"{what}{round_}", seconds, round_) for round_ in (1, 0) for what, seconds in (("a", 1), ("b", 3))
    ]
    assert names(ordered(jobs, cores(1))) == "b0a0b1a1"


def test_what_says_no_round_is_of_the_first() -> None:
    assert names(ordered([Job("b", 1.0, 1), Job("a", 1.0)], cores(1))) == "ab"


@pytest.mark.parametrize(("seconds", "order"), [(100.0, "abz"), (99.0, "azb")])
def test_rounds_may_cost_a_hundredth_and_no_more(seconds: float, order: str) -> None:
    """By round, z starts after a second."""
    jobs = [Job("a", 1.0, 0), Job("b", 1.0, 0), Job("z", seconds, 1)]
    assert names(ordered(jobs, TWO_CORES)) == order


def test_equally_long_trials_keep_the_order_of_the_grid() -> None:
    assert names(ordered([Job(name, 1.0) for name in "abcd"], TWO_CORES)) == "abcd"


def test_a_trial_that_would_end_last_starts_early() -> None:
    # Two slots, 20 s of work: 10 s at best. By round, z would start at 6 s and end at 14 s.
    jobs = [*(Job(name, 1.0, 0) for name in "abcdefghijkl"), Job("z", 8.0, 1)]
    assert makespan(jobs, TWO_CORES) == 14
    order = ordered(jobs, TWO_CORES)
    assert makespan(order, TWO_CORES) == 10
    assert names(order).index("z") == 5, "no earlier than it must"


@pytest.mark.parametrize(
    ("rounds", "slots", "by_round", "shortest", "order"),
    [
        # What each round has, and its seconds. Drawn further forward, d or c would wait for no gain.
        (("a7 e4", "c5 d4", "b7 f6 g1"), 3, 13, 12, "aecbfdg"),  # no gain: aebfcdg
        (("b6 a5 e4", "f9 c6", "d2"), 2, 17, 16, "bafced"),  # bfcaed
        (("a7 b1", "d8 c2", "e2"), 2, 11, 10, "adceb"),  # daceb
        (("", "b2", "c7 d5 a3"), 2, 9 + 1, 9, "cdab"),  # all of them: b waits for a
    ],
)
def test_trials_are_drawn_forward_no_further_than_it_takes(
    rounds: tuple[str, ...], slots: int, by_round: float, shortest: float, order: str
) -> None:
    jobs = [
        Job(text[0], float(text[1:]), number) for number, texts in enumerate(rounds) for text in texts.split()
    ]
    assert makespan(jobs, cores(slots)) == by_round
    found = ordered(jobs, cores(slots))
    assert (names(found), makespan(found, cores(slots))) == (order, shortest)


def test_what_runs_already_takes_its_place() -> None:
    assert makespan_of([3, 1], 2, busy=[5]) == 5  # 3 1 | 5
    assert makespan_of([3, 1], 2, busy=[2, 9]) == 9
    assert makespan_of([], 2, busy=[4]) == 4
    assert makespan_of([1], 1, busy=[2, 3]) == 3, "what runs has a place, even if there should be fewer"
    capacity = Capacity(cpus=4, gpus=4)
    running = [Job("r", 7.0, num_gpus=2)]
    assert makespan([Job("a", 1.0), Job("b", 2.0, num_gpus=2)], capacity, running) == 1 + 7
    assert makespan([], capacity, running) == 7


def test_a_long_trial_starts_earlier_the_fewer_slots_are_free() -> None:
    jobs = [*(Job(name, 1.0, 0) for name in "abc"), Job("z", 8.0, 1)]
    assert names(ordered(jobs, TWO_CORES)) == "azbc", "both start at once"
    assert names(ordered(jobs, TWO_CORES, [Job("r", 3.0)])) == "zabc", "after a second, z would end at 9 s"


def test_large_trials_come_first_and_keep_others_waiting() -> None:
    capacity = Capacity(cpus=4, gpus=4)
    jobs = [Job("a", 8.0), Job("b", 5.0, num_gpus=4), Job("c", 3.0, num_gpus=2), Job("d", 2.0, num_gpus=2)]
    order = ordered(jobs, capacity)
    assert names(order) == "bcda"
    assert makespan(order, capacity) == 5 + 3 + 8


def test_slots() -> None:
    assert cores(8).slots() == 8
    assert Capacity(cpus=8, gpus=0, cpus_per_trial=3).slots() == 2
    assert Capacity(cpus=16, gpus=8).slots() == 8
    assert Capacity(cpus=4, gpus=8).slots() == 4, "a trial takes a CPU too"
    assert Capacity(cpus=16, gpus=1, gpus_per_trial=0.1).slots() == 10
    assert Capacity(cpus=16, gpus=2, gpus_per_trial=0.4).slots() == 4, "none has parts of two GPUs"
    assert Capacity(cpus=16, gpus=8, gpus_per_trial=3.0).slots() == 2
    assert Capacity(cpus=16, gpus=8).slots(num_gpus=4) == 2
    assert cores(2).slots(num_gpus=4) == 0


def test_trials_with_a_part_of_a_gpu_each_run_apart_from_others() -> None:
    capacity = Capacity(cpus=16, gpus=1, is_measured=True)
    assert (capacity.slots(0.25), capacity.slots(), capacity.taken(0.25)) == (4, 1, 0.25)
    jobs = [Job("a", 1.0, num_gpus=0.25), Job("b", 1.0, num_gpus=0.25), Job("c", 3.0), Job("d", 1.0)]
    order = ordered(jobs, capacity)
    assert names(order) == "cdab"
    assert makespan(order, capacity) == 3 + 1 + 1
    assert Capacity(cpus=2, gpus=1, is_measured=True).slots(0.25) == 2, "for which there are CPUs"


def test_what_fits_nowhere_never_ends() -> None:
    assert makespan([Job("a", 1.0, num_gpus=4)], TWO_CORES) == math.inf


def test_hours_are_counted_in_what_is_scarce() -> None:
    assert (cores(2).unit, cores(2).taken(), cores(8).taken(num_gpus=4)) == ("core", 1, 4)
    gpus = Capacity(cpus=16, gpus=8, gpus_per_trial=0.25)
    assert (gpus.unit, gpus.taken(), gpus.taken(num_gpus=4)) == ("GPU", 0.25, 4)


def test_makespan_by_hand() -> None:
    assert makespan_of([], 3) == makespan_of([], 0) == 0
    assert makespan_of([3, 3, 2, 2, 2], 2) == 7  # 3 2 2 | 3 2
    assert lower_bound([3, 3, 2, 2, 2], 2) == 6
    assert lower_bound([9, 1], 2) == 9


@given(JOBS, st.integers(1, 9))
def test_every_job_stands_in_the_order_exactly_once(jobs: list[Job[int]], slots: int) -> None:
    order = ordered(jobs, cores(slots))
    assert sorted(map(id, order)) == sorted(map(id, jobs))


@given(st.lists(SECONDS, min_size=1, max_size=40), st.integers(1, 9))
def test_the_makespan_lies_between_its_bounds(seconds: list[float], slots: int) -> None:
    bound = lower_bound(seconds, slots)
    found = makespan_of(seconds, slots)
    assert bound <= found * (1 + 1e-9)
    assert found <= bound * (2 - 1 / slots) * (1 + 1e-9), "Graham's bound of any list"


@given(st.lists(SECONDS, min_size=1, max_size=12), st.integers(1, 5), st.integers(1, 9))
def test_seeds_first_costs_a_hundredth_at_most(seconds: list[float], seeds: int, slots: int) -> None:
    jobs = [Job(row, duration, seed) for seed in range(seeds) for row, duration in enumerate(seconds)]
    found = makespan(ordered(jobs, cores(slots)), cores(slots))
    longest_first = makespan_of(sorted([job.seconds for job in jobs], reverse=True), slots)
    assert found <= 1.01 * longest_first * (1 + 1e-9)


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_a_study_of_batch_sizes_ends_near_the_bound(seeds: int) -> None:
    minutes = [22, 21, 21, 20, 22, 24, 28, 43, 77, 152, 44, 43, 42, 40, 42, 47, 44, 131, 250, 473]
    rng = random.Random(0)
    jobs = [
        Job(minute, minute * rng.uniform(0.95, 1.05), seed) for seed in range(seeds) for minute in minutes
    ]
    bound = lower_bound([job.seconds for job in jobs], 8)
    assert makespan(ordered(jobs, cores(8)), cores(8)) <= 1.05 * bound


def test_more_gpus_than_this_machine_has_come_with_their_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "gpu_names", list)
    monkeypatch.setattr(resources, "num_cpus", lambda: 2)
    assert resources.capacity() == Capacity(cpus=2, gpus=0)
    assert resources.capacity(gpus=8).slots(num_gpus=8) == 1
    assert resources.capacity(gpus=2, gpus_per_trial=0.25, cpus_per_trial=2).slots() == 8
    assert resources.capacity(cpus=3, gpus=8) == Capacity(cpus=3, gpus=8)
    assert resources.capacity(gpus=2, gpus_per_trial="auto") == Capacity(cpus=2, gpus=2, is_measured=True)
    assert not resources.capacity(gpus_per_trial="auto").is_measured, "without a GPU there is none to share"
