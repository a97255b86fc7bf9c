"""A search in which no member waits for others: each goes on, or is replaced, as soon as it has an error."""

from __future__ import annotations

import random
from collections.abc import Sequence

from gridrun.errors import LaunchError, StoreError
from gridrun.grid.search import Search
from gridrun.search.progress import Progress
from gridrun.search.segments import Segment, exploit, first_round, go_on, go_on_under, quantiles
from gridrun.store import Store
from gridrun.store.lineage import LineageRow


class Asynchronous(Progress):
    """The decisions of such a search.

    They depend on who is faster, so the records do not tell them: the lineage does. It is written before a
    segment starts, and read when the search goes on.
    """

    def __init__(self, search: Search, name: str, store: Store) -> None:
        super().__init__(search, name)
        self.read(store)

    def read(self, store: Store) -> None:
        """Take over what the lineage says by now, in place of all that was known. Raises as `update`.

        StoreError also if the lineage is not of this search.
        """
        decided = _decided(self.search, store.lineage(self.search.search_id))
        self._segments = decided or list(first_round(self.search))
        self._current: dict[int, Segment] = {}
        self._ended: dict[int, Segment] = {}
        self._read_errors(store, self._segments)
        for segment in self._segments:
            if (before := self._current.get(segment.member)) and before.trial.trial_id in self.errors:
                self._ended[segment.member] = before
            self._current[segment.member] = segment
        self.update(store)

    def update(self, store: Store) -> list[Segment]:
        self._read_errors(store, self.current)
        decided = []
        for segment in self.current:
            if segment.trial.trial_id in self.errors and segment is not self._ended.get(segment.member):
                self._ended[segment.member] = segment
        for segment in self.current:
            if self._ended.get(segment.member) is segment and (following := self._decide(segment)):
                self._current[segment.member] = following
                self._segments.append(following)
                decided.append(following)
        if not any(self._is_running(segment) for segment in self.current) and self.best is None:
            raise LaunchError(f"every member of the search {self.name} has diverged")
        return decided

    def _decide(self, segment: Segment) -> Segment | None:
        """Return what the member of an ended segment trains next.

        None: it is at the end, or it has diverged and waits for a member that has not.
        """
        if self._is_at_end(segment):
            return None
        others = sorted(self._ended.items())  # those at the end take no part, as in Ray's scheduler
        ranked = [other for _, other in others if not self._is_at_end(other) or other is segment]
        errors = [self.errors[other.trial.trial_id] for other in ranked]
        best, worst = quantiles(errors, self.search.quantile)
        if ranked.index(segment) not in worst:
            return go_on(self.search, segment)
        donors = [ranked[place] for place in best if ranked[place] is not segment]
        if not donors:
            return None if self.errors[segment.trial.trial_id] is None else go_on(self.search, segment)
        rng = random.Random(f"{self.search.seed} decision {len(self._segments)}")
        return exploit(self.search, segment, rng.choice(donors), rng)

    def _is_at_end(self, segment: Segment) -> bool:
        return segment.round == self.search.num_rounds and self.errors[segment.trial.trial_id] is not None

    def _is_running(self, segment: Segment) -> bool:
        return segment.trial.trial_id not in self.errors

    @property
    def segments(self) -> Sequence[Segment]:
        return self._segments

    @property
    def current(self) -> tuple[Segment, ...]:
        return tuple(self._current[member] for member in range(self.search.population))

    @property
    def is_over(self) -> bool:
        """Whether every member is at the end; those that have diverged and found no donor are, too."""
        return not any(self._is_running(segment) for segment in self.current)

    @property
    def ended(self) -> Sequence[Segment]:
        """The members at the end, if there are any; else the last segment of each that has ended."""
        return [s for s in self._ended.values() if self._is_at_end(s)] or list(self._ended.values())

    @property
    def needed(self) -> set[str]:
        if self.is_over:
            return set()
        parents = {segment.parent or "" for segment in self.current}
        return {s.trial.trial_id for s in (*self.current, *self._ended.values())} | parents

    def epochs_to_come(self) -> list[list[int]]:
        whole = self.search.epochs
        return [[whole - self.search.last_epoch(s.round) for s in self.current if self._is_running(s)]]


def _decided(search: Search, rows: Sequence[LineageRow]) -> list[Segment]:
    """Return the segments that a lineage names, in its order.

    Raises:
        StoreError: it is not of this search.
    """
    first = {segment.trial.trial_id: segment for segment in first_round(search)}
    found: dict[str, Segment] = {}
    segments: list[Segment] = []
    for row in rows:
        parent = found.get(row.parent_id or "")
        if parent is None:
            segment = first.get(row.trial_id)
        elif row.donor is None:
            segment = go_on(search, parent)
        else:
            segment = go_on_under(search, parent, row.policy, row.member)
        if segment is None or (segment.trial.trial_id, segment.member) != (row.trial_id, row.member):
            problem = f"row {len(segments) + 1} does not follow from those before it; move the file away"
            raise StoreError(f"searches/{search.search_id}.parquet: {problem} to decide anew")
        found.setdefault(row.trial_id, segment)
        segments.append(segment)
    return segments
