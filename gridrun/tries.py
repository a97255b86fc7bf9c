"""Which trials a launch has yet to run: those that have no end, and failed ones worth another try."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gridrun.failures import RetryPolicy, coarser
from gridrun.records import Failure
from gridrun.store import End, Store
from gridrun.trial import Trial
from gridrun.worker import Retry

if TYPE_CHECKING:
    from gridrun.grid import Grid


@dataclass(frozen=True, slots=True)
class Failed:
    """A trial has failed; a launch tells of it in place of the executor's `Ended` or `Lost`."""

    trial: Trial
    failure: Failure | None
    reason: str
    again: bool
    """Whether this launch will try it once more."""


class Tries:
    """Decides by the records alone, so that attempts count across launches."""

    def __init__(self, store: Store, policy: RetryPolicy) -> None:
        self.store, self.policy = store, policy
        self.retries: dict[str, Retry] = {}
        """The ends that the next tries are to replace, by trial id."""
        self._forgiven: dict[str, int] = {}

    def ask(self, trials: Iterable[Trial]) -> None:
        """Take trials that have ended for not yet tried, because the user says so."""
        for trial in trials:
            if end := self.store.end(trial.trial_id):
                self._forgiven[trial.trial_id] = end.attempts or 1
                self._note(trial.trial_id, end)

    def is_left(self, trial: Trial) -> bool:
        """Return whether a trial is to be started, perhaps again."""
        end = self.store.end(trial.trial_id)
        if end is None:
            return True
        if end.status == "done":
            return False
        retry = self.retries.get(trial.trial_id)
        if retry and retry.ended_at == end.ended_at:
            return True
        attempts = (end.attempts or 1) - self._forgiven.get(trial.trial_id, 0)
        if end.status == "failed" and self.policy.allows(end.failure, attempts, end.gpu_share):
            self._note(trial.trial_id, end)
            return True
        return False

    def attempts(self, trial: Trial) -> int:
        """Return how often a trial has been started, the present time included."""
        retry = self.retries.get(trial.trial_id)
        return retry.attempts + 1 if retry else 1

    def _note(self, trial_id: str, end: End) -> None:
        before = self.retries.get(trial_id)
        share = before.gpu_share if before else None
        if end.failure == "gpu_memory" and end.gpu_share is not None and end.gpu_share < 1:
            share = coarser(end.gpu_share)
        self.retries[trial_id] = Retry(end.ended_at, end.attempts or 1, share)


def due_again(grids: Iterable[Grid], store: Store, retries: int | None = None) -> frozenset[str]:
    """Return the ids of failed trials that the next launch of some grids would try again.

    `retries` stands for what the grids say, where it is given.
    """
    statuses, due = store.statuses(), set[str]()
    for grid in grids:
        failed = (trial for trial in grid.trials if statuses.get(trial.trial_id) == "failed")
        tries = Tries(store, RetryPolicy(grid.running.retries if retries is None else retries))
        due.update(trial.trial_id for trial in filter(tries.is_left, failed))
    return frozenset(due)
