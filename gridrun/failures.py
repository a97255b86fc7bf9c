"""Why trials fail, and which failures are worth another try."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gridrun.depot import UnreadableError
from gridrun.records import Failure

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


def kind_of_death(text: str) -> Failure:
    """Return what kind of failure Ray's account of a lost worker tells of.

    It always speaks of the kernel's OOM killer as one possible cause; only Ray's own is sure.
    """
    if re.search(r"running low on memory|OutOfMemoryError", text):
        return "host_memory"
    if re.search(r"its node has died|NodeDiedError|node was terminated", text):
        return "node_lost"
    return "exception" if re.search(r"^ray::", text, re.MULTILINE) else "worker_killed"


def reason_of_death(text: str) -> str:
    """Return in one line what Ray says of a lost worker."""
    found = re.search(r"OOM kill reason: (.+)", text)
    last = (text.strip().splitlines() or [""])[-1]
    return (found[1] if found else last).strip()[:300]


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
