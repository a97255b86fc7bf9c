"""How far a search is, computed from the records of a store. Imports neither torch nor ray."""

from __future__ import annotations

from dataclasses import replace

from gridrun.grid import Grid, grid_of
from gridrun.grid.search import Search
from gridrun.plan import Forecast
from gridrun.plan.schedule import makespan_of
from gridrun.search.segments import Segment, first_round, next_round
from gridrun.store import Store
from gridrun.store.lineage import LineageRow


class Progress:
    """The rounds of a search up to the one that has not ended yet."""

    def __init__(self, search: Search, name: str, store: Store) -> None:
        self.search, self.name = search, name
        self.rounds = [first_round(search)]
        self.errors: dict[str, float | None] = {}
        """Validation error of each segment that has ended, by trial id; None: it has diverged."""
        self.update(store)

    @classmethod
    def of(cls, grid: Grid, store: Store) -> Progress:
        """Return the progress of a grid's search."""
        assert grid.search
        return cls(grid.search, grid.name, store)

    def update(self, store: Store) -> int:
        """Take in what has ended since, and decide the rounds that follow; return how many these are.

        Raises:
            LaunchError: every member has diverged.
        """
        before = len(self.rounds)
        while True:
            wanted = {segment.trial.trial_id for segment in self.current} - self.errors.keys()
            for trial_id, row in store.rows(wanted, ("test_error",)).items() if wanted else ():
                if row["status"] != "failed":
                    self.errors[trial_id] = row["test_error"] if row["status"] == "done" else None
            if not self._current_has_ended or len(self.rounds) == self.search.num_rounds:
                return len(self.rounds) - before
            self.rounds.append(next_round(self.search, self.current, self.errors))

    @property
    def current(self) -> tuple[Segment, ...]:
        """The segments of the last round that is decided."""
        return self.rounds[-1]

    @property
    def _current_has_ended(self) -> bool:
        return all(segment.trial.trial_id in self.errors for segment in self.current)

    @property
    def is_over(self) -> bool:
        """Whether all rounds have ended."""
        return len(self.rounds) == self.search.num_rounds and self._current_has_ended

    @property
    def ended(self) -> tuple[Segment, ...]:
        """The segments of the last round that has ended; none before the first has."""
        if self.is_over:
            return self.current
        return self.rounds[-2] if len(self.rounds) > 1 else ()

    @property
    def best(self) -> Segment | None:
        """The member with the lowest validation error after the last round that has ended."""
        measured = [s for s in self.ended if self.errors[s.trial.trial_id] is not None]
        return min(measured, key=lambda s: self.errors[s.trial.trial_id] or 0.0, default=None)

    @property
    def grid(self) -> Grid:
        """The trials of the current round."""
        trials = list(dict.fromkeys(segment.trial for segment in self.current))
        return grid_of(trials, {s.trial.trial_id: s.parent for s in self.current if s.parent})

    def ancestry(self, member: int) -> list[Segment]:
        """Return the segments that a member's weights have gone through, the first one first."""
        by_trial = [{segment.trial.trial_id: segment for segment in one} for one in self.rounds]
        found = [self.current[member]]
        for segments in reversed(by_trial[:-1]):
            found.append(segments[found[-1].parent or ""])
        return found[::-1]

    def lineage(self) -> list[LineageRow]:
        """Return one row for each segment that is decided."""
        return [
            LineageRow(
                search_id=self.search.search_id,
                name=self.name,
                round=segment.round,
                member=segment.member,
                seed=segment.trial.seed,
                first_epoch=self.search.last_epoch(segment.round - 1) + 1,
                last_epoch=self.search.last_epoch(segment.round),
                trial_id=segment.trial.trial_id,
                parent_id=segment.parent,
                donor=segment.donor,
                policy=segment.policy,
                val_error=self.errors.get(segment.trial.trial_id),
            )
            for one in self.rounds
            for segment in one
        ]

    def forecast(self, current: Forecast) -> Forecast:
        """Return a forecast with the later rounds added, given one with all that is left of this round.

        In later rounds, an epoch takes as long as in this one. If nothing is left of it, nobody can tell.
        """
        own = {segment.trial for segment in self.current}
        rates = [current.costs[t.trial_id].amount / t.config.last_epoch for t in current.trials if t in own]
        if current.is_relative or not rates:
            return current
        base, capacity = self.search.base, current.capacity
        seconds, makespan, hours = sum(rates) / len(rates), 0.0, 0.0
        for number in range(len(self.rounds) + 1, self.search.num_rounds + 1):
            epochs = self.search.last_epoch(number) - self.search.last_epoch(number - 1)
            times = [seconds * epochs] * self.search.population
            makespan += makespan_of(times, capacity.slots(base.num_gpus))
            hours += sum(times) * capacity.taken(base.num_gpus) / 3600
        return replace(
            current,
            makespan_seconds=(current.makespan_seconds or 0.0) + makespan,
            hours=(current.hours or 0.0) + hours,
        )
