"""A search in rounds: all members train for some epochs, then it is decided who goes on from whom."""

from __future__ import annotations

from collections.abc import Sequence

from gridrun.grid.search import Search
from gridrun.search.progress import Progress
from gridrun.search.segments import Segment, first_round, next_round
from gridrun.store import Store


class Rounds(Progress):
    """The rounds of a search up to the one that has not ended yet."""

    def __init__(self, search: Search, name: str, store: Store) -> None:
        super().__init__(search, name)
        self.rounds = [first_round(search)]
        self.update(store)

    def update(self, store: Store) -> list[Segment]:
        before = len(self.rounds)
        while True:
            self._read_errors(store, self.current)
            if not self._current_has_ended or len(self.rounds) == self.search.num_rounds:
                return [segment for one in self.rounds[before:] for segment in one]
            self.rounds.append(next_round(self.search, self.current, self.errors))

    @property
    def segments(self) -> Sequence[Segment]:
        return [segment for one in self.rounds for segment in one]

    @property
    def current(self) -> tuple[Segment, ...]:
        return self.rounds[-1]

    @property
    def _current_has_ended(self) -> bool:
        return all(segment.trial.trial_id in self.errors for segment in self.current)

    @property
    def is_over(self) -> bool:
        return len(self.rounds) == self.search.num_rounds and self._current_has_ended

    @property
    def ended(self) -> tuple[Segment, ...]:
        """The segments of the last round that has ended; none before the first has."""
        if self.is_over:
            return self.current
        return self.rounds[-2] if len(self.rounds) > 1 else ()

    @property
    def needed(self) -> set[str]:
        if self.is_over:
            return set()
        return {trial_id for s in self.current for trial_id in (s.trial.trial_id, s.parent or "")}

    def epochs_to_come(self) -> list[list[int]]:
        search, numbers = self.search, range(len(self.rounds) + 1, self.search.num_rounds + 1)
        return [[search.last_epoch(n) - search.last_epoch(n - 1)] * search.population for n in numbers]
