"""Who trains what in a round of a search, and who goes on from whom (Ho et al., arXiv:1905.05393)."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gridrun.errors import LaunchError
from gridrun.grid.search import Search, policy_of, under
from gridrun.trial import Trial
from trainer.augmentations.policy.schedules import LEVELS, TENTHS, Schedule, from_vector, to_vector

MAX_STEP = 3
"""The most by which exploring changes a number that it does not draw anew."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What one member trains in one round."""

    round: int
    """Counted from 1."""
    member: int
    """Counted from 0."""
    trial: Trial
    parent: str | None = None
    """Id of the trial whose state it starts from; None: the search starts."""
    donor: int | None = None
    """The member whose state and schedule it has taken over; None: it goes on with its own."""

    @property
    def schedule(self) -> Schedule:
        """The member's policies so far; the last one lasts to the end of the run."""
        return policy_of(self.trial.config).schedule

    @property
    def policy(self) -> str:
        """The policy of this round."""
        return self.schedule[-1][1]


def first_round(search: Search) -> tuple[Segment, ...]:
    """Return the segments of round 1: the members differ by their seeds alone."""
    config = dataclasses.replace(search.base, stop_after=search.last_epoch(1))
    seeds = (search.seed * search.population + member for member in range(search.population))
    return tuple(Segment(1, member, Trial(config, seed)) for member, seed in enumerate(seeds))


def next_round(
    search: Search, segments: Sequence[Segment], errors: Mapping[str, float | None]
) -> tuple[Segment, ...]:
    """Return the segments of the round after `segments`.

    The worst members go on from the best ones, drawn at random, each under an explored policy. All others
    go on as they are.

    Args:
        errors: validation error of each segment by trial id; None: it has diverged.

    Raises:
        LaunchError: every member has diverged.
    """
    number = segments[0].round + 1
    best, worst = quantiles([errors[segment.trial.trial_id] for segment in segments], search.quantile)
    if not best:
        raise LaunchError(f"every member has diverged in round {number - 1} of the search")
    rng = random.Random(f"{search.seed} {number}")
    return tuple(
        exploit(search, segment, segments[rng.choice(best)], rng)
        if segment.member in worst
        else go_on(search, segment)
        for segment in segments
    )


def quantiles(errors: Sequence[float | None], quantile: float) -> tuple[list[int], set[int]]:
    """Return the members to copy, in their order, and those to replace: all that have diverged among them."""
    order = sorted(range(len(errors)), key=lambda member: (_or_inf(errors[member]), member))
    count = min(math.ceil(round(quantile * len(order), 6)), len(order) // 2)
    diverged = {member for member in order if errors[member] is None}
    return sorted(set(order[:count]) - diverged), {*order[len(order) - count :], *diverged}


def _or_inf(error: float | None) -> float:
    return math.inf if error is None else error


def explore(policy: Sequence[int], resample: float, rng: random.Random) -> list[int]:
    """Return the numbers of a policy (`to_vector`), each changed by itself.

    With the probability `resample` it is drawn anew, uniformly. Otherwise it goes up or down by 0, 1, 2 or 3,
    all equally likely, but not out of its range.
    """
    explored = []
    for place, value in enumerate(policy):
        most = LEVELS - 1 if place % 2 else TENTHS
        if rng.random() < resample:
            explored.append(rng.randint(0, most))
        else:
            step = rng.randint(0, MAX_STEP) * rng.choice((-1, 1))
            explored.append(min(max(value + step, 0), most))
    return explored


def go_on(search: Search, segment: Segment) -> Segment:
    """Return what a member trains next that goes on as it is."""
    stop = search.last_epoch(segment.round + 1)
    config = dataclasses.replace(segment.trial.config, stop_after=stop)
    return Segment(
        segment.round + 1, segment.member, Trial(config, segment.trial.seed), segment.trial.trial_id
    )


def exploit(search: Search, segment: Segment, donor: Segment, rng: random.Random) -> Segment:
    """Return what a member trains next that goes on from a donor's state, under an explored policy."""
    vector = explore(to_vector(donor.policy), search.resample, rng)
    return go_on_under(search, donor, from_vector(vector), segment.member)


def go_on_under(search: Search, donor: Segment, policy: str, member: int) -> Segment:
    """Return what a member trains next that goes on from a donor's state, under a policy."""
    schedule = followed_by(donor.schedule, search.last_epoch(donor.round), policy)
    taken = go_on(search, donor)
    trial = Trial(under(taken.trial.config, schedule), taken.trial.seed)
    return dataclasses.replace(taken, member=member, donor=donor.member, trial=trial)


def followed_by(schedule: Schedule, epochs: int, policy: str) -> Schedule:
    """Return a schedule of the same length that has another policy after so many epochs."""
    pieces: list[tuple[int, str]] = []
    end = sum(lasts for lasts, _ in schedule)
    for lasts, text in schedule:
        kept = min(lasts, epochs - sum(n for n, _ in pieces))
        pieces += [(kept, text)] if kept else []
    if pieces[-1][1] == policy:  # so that the same policies are one schedule, and one trial
        epochs -= pieces.pop()[0]
    return (*pieces, (end - epochs, policy))
