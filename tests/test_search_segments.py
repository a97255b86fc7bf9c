"""Who goes on from whom, and under which policy: arithmetic, without training."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from gridrun.errors import LaunchError
from gridrun.grid.search import Search, policy_of, under
from gridrun.search.segments import Segment, explore, first_round, followed_by, next_round, quantiles
from trainer import TrainConfig
from trainer.augmentations.policy.schedules import from_vector, length, to_vector

DRAWS = 100_000
GOLDEN = [
    *(0, 3, 0, 1, 0, 1, 0, 2, 2, 2, 0, 0, 6, 0, 3, 6, 3, 3, 2, 0, 0, 3, 2, 0, 0, 2, 2, 0, 2, 0),
    *(0, 1, 2, 3, 0, 1, 0, 1, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 2, 0, 0, 2, 8, 0, 2, 0, 0, 0, 0),
]
"""The first policy explored by a search with seed 0."""


def search(**options: Any) -> Search:
    config = {"model": {"name": "resnet_preact", "depth": 8}, "dataset": "digits", "val_ratio": 0.1}
    epochs = options.pop("epochs", 200)
    base = TrainConfig.from_dict({**config, "epochs": epochs})
    return Search(base=under(base, ((epochs, ""),)), **options)


def errors_of(segments: tuple[Segment, ...], errors: list[float | None]) -> dict[str, float | None]:
    return {segment.trial.trial_id: error for segment, error in zip(segments, errors, strict=True)}


def test_members_of_round_1_differ_by_seeds_that_no_other_search_has() -> None:
    segments = first_round(search(seed=2, population=4))
    assert [segment.trial.seed for segment in segments] == [8, 9, 10, 11]
    assert {(segment.round, segment.trial.config.stop_after) for segment in segments} == {(1, 3)}


# --- explore ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parity", "value", "most"), [(0, 5, 10), (1, 5, 9), (0, 0, 10), (1, 9, 9), (0, 9, 10)]
)
def test_explore_has_the_distribution_of_the_authors(parity: int, value: int, most: int) -> None:
    """A fifth is drawn anew from 0..10 or 0..9; the rest moves by 0, 1, 2, 3, up or down, and is clipped."""
    wanted = dict.fromkeys(range(most + 1), 0.2 / (most + 1))
    for step in (-3, -2, -1, 0, 0, 1, 2, 3):
        wanted[min(max(value + step, 0), most)] += 0.8 / 8
    rng = random.Random(7)
    policies = (explore([value] * 60, 0.2, rng)[parity::2] for _ in range(DRAWS // 30))
    found = Counter(number for policy in policies for number in policy)
    times = found.total()
    assert found.keys() <= wanted.keys()
    for number, share in wanted.items():
        spread = (share * (1 - share) / times) ** 0.5
        assert found[number] / times == pytest.approx(share, abs=5 * spread), number


def test_explore_changes_each_number_by_itself_within_its_range() -> None:
    rng, vector = random.Random(3), [5, 5] * 30
    times = DRAWS // 60
    drawn = [explore(vector, 0.2, rng) for _ in range(times)]
    assert all(len(policy) == 60 for policy in drawn)
    assert {number for policy in drawn for number in policy[0::2]} == set(range(11))
    assert {number for policy in drawn for number in policy[1::2]} == set(range(10))
    same = sum(number == 5 for policy in drawn for number in policy) / (60 * times)
    assert same == pytest.approx(0.8 / 4 + 0.2 * (1 / 11 + 1 / 10) / 2, abs=0.01)
    together = sum((policy[0] == 5) and (policy[1] == 5) for policy in drawn) / times
    assert together == pytest.approx(same**2, abs=0.02)


def test_explore_always_or_never_draws_anew() -> None:
    rng = random.Random(0)
    assert all(explore([0] * 60, 0.0, rng)[place] <= 3 for place in range(60) for _ in range(20))
    assert max(number for _ in range(20) for number in explore([0] * 60, 1.0, rng)) == 10


def test_the_start_policy_half_stays() -> None:
    """From 0, half of the moves are clipped to 0: the policies grow slowly."""
    rng = random.Random(5)
    kept = sum(number == 0 for _ in range(500) for number in explore([0] * 60, 0.2, rng)) / (500 * 60)
    assert kept == pytest.approx(0.8 * 5 / 8 + 0.2 * (1 / 11 + 1 / 10) / 2, abs=0.01)


# --- exploit ---------------------------------------------------------------------------------------


def test_of_16_members_the_4_worst_go_on_from_the_4_best() -> None:
    one = search()
    segments = first_round(one)
    errors = [0.5 + 0.01 * ((7 * member) % 16) for member in range(16)]
    order = sorted(range(16), key=lambda member: errors[member])
    after = next_round(one, segments, errors_of(segments, errors))
    replaced = {segment.member for segment in after if segment.donor is not None}
    assert replaced == set(order[12:])
    assert {segment.donor for segment in after if segment.donor is not None} <= set(order[:4])
    for segment, before in zip(after, segments, strict=True):
        donor = segments[before.member if segment.donor is None else segment.donor]
        assert segment.parent == donor.trial.trial_id
        assert segment.trial.seed == donor.trial.seed
        assert segment.trial.config.stop_after == 6
        assert segment.trial.config.goes_on_from(donor.trial.config, donor.trial.seed)
        if segment.donor is None:
            assert segment.schedule == before.schedule, "winners keep their policies"
        else:
            assert segment.schedule[:-1] == ((3, ""),)
            assert length(segment.schedule) == 200


def test_each_of_the_best_is_a_donor_now_and_then() -> None:
    donors: Counter[int | None] = Counter()
    for seed in range(60):
        one = search(seed=seed, population=8)
        segments = first_round(one)
        after = next_round(one, segments, errors_of(segments, [0.1 * member for member in range(8)]))
        donors.update(segment.donor for segment in after if segment.donor is not None)
    assert set(donors) == {0, 1}
    assert min(donors.values()) > 40  # of 120


@pytest.mark.parametrize(
    ("errors", "quantile", "best", "worst"),
    [
        ([0.4, 0.1, 0.3, 0.2], 0.25, [1], {0}),
        ([0.2, 0.1], 0.25, [1], {0}),
        ([0.3, 0.1, 0.2], 0.5, [1], {0}),  # at most half, rounded down
        ([0.1] * 5, 0.25, [0, 1], {3, 4}),  # equal: the first ones are the best
        ([None, 0.1, 0.2, 0.3], 0.25, [1], {0}),
        ([None, None, None, 0.3], 0.25, [3], {0, 1, 2}),
        ([None, None, None, None], 0.25, [], {0, 1, 2, 3}),
        ([0.1 * n for n in range(10)], 0.3, [0, 1, 2], {7, 8, 9}),
    ],
)
def test_quantiles(errors: list[float | None], quantile: float, best: list[int], worst: set[int]) -> None:
    assert quantiles(errors, quantile) == (best, worst)


def test_a_search_of_diverged_members_ends_with_an_error() -> None:
    one = search(population=2)
    segments = first_round(one)
    with pytest.raises(LaunchError, match="every member has diverged in round 1"):
        next_round(one, segments, errors_of(segments, [None, None]))


def test_decisions_follow_from_seed_round_and_errors_alone() -> None:
    one, other = search(), search(seed=1)
    segments = first_round(one)
    errors = errors_of(segments, [0.01 * member for member in range(16)])
    random.seed(1)
    first = next_round(one, segments, errors)
    random.seed(2)
    assert next_round(one, segments, errors) == first
    again = first_round(other)
    changed = next_round(other, again, errors_of(again, [0.01 * member for member in range(16)]))
    assert [segment.policy for segment in changed] != [segment.policy for segment in first]
    assert {segment.trial.seed for segment in segments}.isdisjoint(segment.trial.seed for segment in again)


def test_decisions_stay_as_they_are() -> None:
    """A search that is gone on with by a later version must decide its past rounds as before."""
    one = search(population=4)
    segments = first_round(one)
    after = next_round(one, segments, errors_of(segments, [0.4, 0.1, 0.3, 0.2]))
    assert [segment.donor for segment in after] == [1, None, None, None]
    assert to_vector(after[0].policy) == GOLDEN


def test_rounds_end_with_the_last_epoch() -> None:
    one = search(epochs=8, population=2)
    assert one.num_rounds == 3
    segments = first_round(one)
    stops = [segments[0].trial.config.last_epoch]
    while len(stops) < one.num_rounds:
        segments = next_round(one, segments, errors_of(segments, [0.1, 0.2]))
        stops.append(segments[0].trial.config.last_epoch)
    assert stops == [3, 6, 8]
    assert segments[0].trial.config.stop_after is None
    assert [length(segment.schedule) for segment in segments] == [8, 8]


def test_a_donors_schedule_is_cut_where_its_receiver_begins() -> None:
    a, b = "Rotate 0.1 2", "Color 1 3"
    assert followed_by(((9, ""),), 3, a) == ((3, ""), (6, a))
    assert followed_by(((3, ""), (6, a)), 6, b) == ((3, ""), (3, a), (3, b))
    assert followed_by(((3, ""), (6, a)), 6, a) == ((3, ""), (6, a)), "the same policies are one schedule"
    assert followed_by(((3, ""), (3, a), (3, b)), 3, "") == ((9, ""),)


def test_a_policy_and_its_numbers_are_one() -> None:
    rng = random.Random(0)
    vector = [0] * 60
    for _ in range(20):
        vector = explore(vector, 0.2, rng)
        text = from_vector(vector)
        assert from_vector(to_vector(text)) == text


def test_the_other_options_of_a_policy_stay() -> None:
    one = search(epochs=4)
    assert policy_of(under(one.base, ((4, "Invert 1 0"),))).schedule == ((4, "Invert 1 0"),)
    assert under(one.base, ((4, ""),)) == one.base
