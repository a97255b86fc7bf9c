"""Why trials fail, and which failures are worth another try."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gridrun.store import End, Store
from gridrun.store.checkpoint_copies import UnreadableError
from gridrun.store.records import Failure
from gridrun.sweep.events import Retry
from gridrun.trial import Trial

if TYPE_CHECKING:
    from gridrun.grid import Grid

PASSING: frozenset[Failure] = frozenset({"worker_killed", "host_memory", "node_lost", "checkpoints"})
"""Failures that a trial may well be innocent of."""
DEFAULT_RETRIES = 2
"""How often a trial is started again after a passing failure, unless the user says otherwise."""

_GPU_MEMORY = re.compile(
    r"\bOutOfMemoryError\b|CUDA (error: )?out of memory|CUDA ran out of memory|Cuda failure .*out of memory"
    r"|CU(BLAS|SOLVER)_STATUS_ALLOC_FAILED|DEVICE_ALLOCATION_FAILED"  # of cuBLAS, cuSOLVER, cuDNN
)
_HOST_MEMORY = re.compile(
    r"\bMemoryError\b|DefaultCPUAllocator|[Cc]annot allocate memory"
    r"|HOST_ALLOCATION_FAILED|CUDNN_STATUS_ALLOC_FAILED"  # of cuDNN 9
)
_PROCESS_KILLED = re.compile(r"was killed by SIG|DataLoader worker .*exited unexpectedly")
"""A process beside the trial's own: another rank, or one that decodes images."""


def kind_of(error: BaseException) -> Failure:
    """Return what kind of failure an error that ended a trial in its own process is.

    Errors of a rank after the first come as text, and so are read as text.
    """
    from trainer.datasets import DataError

    if isinstance(error, DataError):
        return "data"
    if isinstance(error, UnreadableError):
        return "checkpoints"
    text = f"{type(error).__name__}: {error}"
    if _GPU_MEMORY.search(text):
        return "gpu_memory"
    if _HOST_MEMORY.search(text):
        return "host_memory"
    return "worker_killed" if _PROCESS_KILLED.search(text) else "exception"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Which failed trials a launch starts again by itself."""

    retries: int | None = None
    """How often, whatever the failure; None: DEFAULT_RETRIES after one that may pass, else never."""
    stop_after_failures: int | None = None
    """Start no more once so many different trials have failed since the last that did not."""

    def allows(self, failure: Failure | None, attempts: int, gpu_share: float | None = None) -> bool:
        """Return whether a trial that has failed is to be started again.

        Args:
            failure: its kind; None of records that do not say.
            attempts: how often the trial has been started.
            gpu_share: of a GPU, that it had; on a larger one, too little memory passes.
        """
        if failure == "divergence":
            return False
        if failure == "gpu_memory" and gpu_share is not None and gpu_share < 1:
            return True
        usual = DEFAULT_RETRIES if failure in PASSING else 0
        return attempts <= (usual if self.retries is None else self.retries)


def coarser(gpu_share: float) -> float:
    """Return the next larger share of a GPU: half as many trials on it, at last one alone."""
    beside = max(1, int(1 / gpu_share + 1e-9) // 2)
    return 1 / beside


@dataclass(frozen=True, slots=True)
class Failed:
    """A trial has failed; a launch tells of it in place of the executor's `Ended` or `Lost`."""

    trial: Trial
    failure: Failure | None
    reason: str
    again: bool
    """Whether this launch will try it once more."""


class RetryState:
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
        retry_state = RetryState(store, RetryPolicy(grid.running.retries if retries is None else retries))
        due.update(trial.trial_id for trial in filter(retry_state.is_left, failed))
    return frozenset(due)
