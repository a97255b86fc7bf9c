"""How far a search is, computed from the records of a store. Imports neither torch nor ray."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from gridrun.grid import Grid, grid_of
from gridrun.grid.search import Search
from gridrun.plan import Forecast
from gridrun.plan.schedule import makespan_of
from gridrun.search.segments import Segment
from gridrun.store import Store
from gridrun.store.lineage import LineageRow


class Progress(abc.ABC):
    """Which segments of a search are decided, and how those have ended that have."""

    def __init__(self, search: Search, name: str) -> None:
        self.search, self.name = search, name
        self.errors: dict[str, float | None] = {}
        """Validation error of each segment that has ended, by trial id; None: it has diverged."""
        self._notes: dict[str, list[str]] = {}

    @abc.abstractmethod
    def update(self, store: Store) -> list[Segment]:
        """Take in what has ended since; return the segments that are decided by that.

        Raises:
            StoreError: the store cannot be read.
            LaunchError: every member has diverged.
        """

    @property
    @abc.abstractmethod
    def segments(self) -> Sequence[Segment]:
        """All segments that are decided, in the order of the decisions."""

    @property
    @abc.abstractmethod
    def current(self) -> tuple[Segment, ...]:
        """The last segment of each member, by member."""

    @property
    @abc.abstractmethod
    def ended(self) -> Sequence[Segment]:
        """The last segment of each member that has ended, as far as they compare with each other."""

    @property
    @abc.abstractmethod
    def needed(self) -> set[str]:
        """Ids of the trials from whose state a segment may yet start."""

    @property
    @abc.abstractmethod
    def is_over(self) -> bool:
        """Whether nothing is left to train."""

    @abc.abstractmethod
    def epochs_to_come(self) -> list[list[int]]:
        """Return the epochs that members train after their current segments: a list for each that waits for
        all before it."""

    @property
    def best(self) -> Segment | None:
        """The member with the lowest validation error, of those that compare."""
        measured = [s for s in self.ended if self.errors[s.trial.trial_id] is not None]
        return min(measured, key=lambda s: self.errors[s.trial.trial_id] or 0.0, default=None)

    @property
    def grid(self) -> Grid:
        """The trials of the current segments."""
        trials = list(dict.fromkeys(segment.trial for segment in self.current))
        return grid_of(trials, {s.trial.trial_id: s.parent for s in self.current if s.parent})

    def ancestry(self, member: int) -> list[Segment]:
        """Return the segments that a member's weights have gone through, the first one first."""
        by_trial = {segment.trial.trial_id: segment for segment in reversed(self.segments)}
        found = [self.current[member]]
        while parent := found[-1].parent:
            found.append(by_trial[parent])
        return found[::-1]

    def notes_on(self, segment: Segment) -> str:
        """Return what happened to an ended segment, such as the loss of the state to go on from; often empty.

        A state has the notes of all that it has gone through; those on the segments before are left out.
        """
        before = self._notes.get(segment.parent or "", [])
        return "; ".join(note for note in self._notes.get(segment.trial.trial_id, []) if note not in before)

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
            for segment in self.segments
        ]

    def _read_errors(self, store: Store, segments: Iterable[Segment]) -> None:
        """Read the errors of those segments that have ended."""
        wanted = {segment.trial.trial_id for segment in segments} - self.errors.keys()
        for trial_id, row in store.rows(wanted, ("test_error", "notes")).items() if wanted else ():
            if row["status"] != "failed":
                self.errors[trial_id] = row["test_error"] if row["status"] == "done" else None
                self._notes[trial_id] = (row.get("notes") or "").split("; ")

    def forecast(self, current: Forecast) -> Forecast:
        """Return a forecast with later segments added, given one with all that is left of the current ones.

        In later ones, an epoch takes as long as in these. If nothing is left of them, nobody can tell.
        """
        own = {segment.trial for segment in self.current}
        rates = [current.costs[t.trial_id].amount / t.config.last_epoch for t in current.trials if t in own]
        if current.is_relative or not rates:
            return current
        base, capacity = self.search.base, current.capacity
        seconds, makespan, hours = sum(rates) / len(rates), 0.0, 0.0
        for epochs in self.epochs_to_come():
            times = [seconds * number for number in epochs]
            makespan += makespan_of(times, capacity.slots(base.num_gpus))
            hours += sum(times) * capacity.taken(base.num_gpus) / 3600
        makespan += current.makespan_seconds or 0.0
        hours += current.hours or 0.0
        return replace(
            current,
            makespan_seconds=makespan,
            hours=hours,
            makespan_range=_scaled(current.makespan_range, current.makespan_seconds, makespan),
            hours_range=_scaled(current.hours_range, current.hours, hours),
            kwh=None,
        )


def _scaled(
    found: tuple[float, float] | None, before: float | None, now: float
) -> tuple[float, float] | None:
    """Return the range of an estimate that has become longer, and is as much of a guess as before."""
    if not found or not before or math.isinf(before):  # infinite: it fits nowhere
        return found
    return found[0] * now / before, found[1] * now / before
