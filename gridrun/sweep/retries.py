"""Why trials fail, and which failed trials to retry."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gridrun.store import End, Store
from gridrun.store.checkpoint_copies import UnreadableError
from gridrun.store.records import Failure
from gridrun.trial import Trial

TRANSIENT: frozenset[Failure] = frozenset({"worker_killed", "host_memory", "node_lost", "checkpoints"})
"""Failures that are often not the trial's own fault, so that a retry may succeed."""
DEFAULT_RETRIES = 2  # retries after a transient failure, unless the user says otherwise

_GPU_MEMORY = re.compile(
    r"\bOutOfMemoryError\b|CUDA (error: )?out of memory|CUDA ran out of memory|Cuda failure .*out of memory"
    r"|CU(BLAS|SOLVER)_STATUS_ALLOC_FAILED|DEVICE_ALLOCATION_FAILED"  # of cuBLAS, cuSOLVER, cuDNN
)
_HOST_MEMORY = re.compile(
    r"\bMemoryError\b|DefaultCPUAllocator|[Cc]annot allocate memory"
    r"|HOST_ALLOCATION_FAILED|CUDNN_STATUS_ALLOC_FAILED"  # of cuDNN 9
)
_PROCESS_KILLED = re.compile(r"was killed by SIG|DataLoader worker .*exited unexpectedly")
"""Another process of the trial was killed: a rank, or one that decodes images."""


def kind_of(error: BaseException) -> Failure:
    """Return the kind of failure of an error that a trial raised in its own process.

    Errors of other ranks arrive as text, so this looks at the text.
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
class Retry:
    """The end of a trial that its next attempt will replace."""

    ended_at: str
    attempts: int
    """How often the trial has been started so far."""
    gpu_share: float | None = None
    """Part of a GPU that the next attempt gets, if it needs more than the launch gives a trial."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Which failed trials a launch retries by itself."""

    retries: int | None = None
    """Retries for each trial; None: DEFAULT_RETRIES after a transient failure, else 0."""
    stop_after_failures: int | None = None
    """Start no more trials once this many have failed in a row; None: never stop."""

    def allows(self, failure: Failure | None, attempts: int, gpu_share: float | None = None) -> bool:
        """Return whether to retry a trial that has been started `attempts` times.

        With less than a whole GPU, too little GPU memory is always retried, on a larger share.
        """
        if failure == "divergence":
            return False
        if failure == "gpu_memory" and gpu_share is not None and gpu_share < 1:
            return True
        default = DEFAULT_RETRIES if failure in TRANSIENT else 0
        return attempts <= (default if self.retries is None else self.retries)


def coarser(gpu_share: float) -> float:
    """Return the next larger share of a GPU: half as many trials share it, down to one alone."""
    return 1 / max(1, int(1 / gpu_share + 1e-9) // 2)


@dataclass(frozen=True, slots=True)
class Failed:
    """A trial failed. The launch reports this in place of the executor's `Ended` or `Lost`."""

    trial: Trial
    failure: Failure | None
    reason: str
    will_retry: bool


class RetryState:
    """Which trials a launch still has to run. Attempts are read from the store, so all launches count."""

    def __init__(self, store: Store, policy: RetryPolicy) -> None:
        self.store, self.policy = store, policy
        self.retries: dict[str, Retry] = {}
        """The failed end that the next run of a trial replaces, by trial id."""
        self._attempts_before: dict[str, int] = {}  # do not count: the user asked for these trials again

    def force(self, trials: Iterable[Trial]) -> None:
        """Run trials again although they have ended, with as many retries as new ones."""
        for trial in trials:
            if end := self.store.end(trial.trial_id):
                self._attempts_before[trial.trial_id] = end.attempts or 1
                self._note_retry(trial.trial_id, end)

    def should_run(self, trial: Trial) -> bool:
        """Return whether a trial has to be started, or started again."""
        end = self.store.end(trial.trial_id)
        if end is None:
            return True
        if end.status == "done":
            return False
        retry = self.retries.get(trial.trial_id)
        if retry and retry.ended_at == end.ended_at:
            return True
        attempts = (end.attempts or 1) - self._attempts_before.get(trial.trial_id, 0)
        if end.status == "failed" and self.policy.allows(end.failure, attempts, end.gpu_share):
            self._note_retry(trial.trial_id, end)
            return True
        return False

    def attempts(self, trial: Trial) -> int:
        """Return how many times a trial has been started, including the current run."""
        retry = self.retries.get(trial.trial_id)
        return retry.attempts + 1 if retry else 1

    def _note_retry(self, trial_id: str, end: End) -> None:
        before = self.retries.get(trial_id)
        share = before.gpu_share if before else None
        if end.failure == "gpu_memory" and end.gpu_share is not None and end.gpu_share < 1:
            share = coarser(end.gpu_share)
        self.retries[trial_id] = Retry(end.ended_at, end.attempts or 1, share)
