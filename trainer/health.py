"""Whether a process can still use its GPU after a trial has failed."""

from __future__ import annotations

import contextlib
import threading

import torch

ANSWER_SECONDS = 30.0
"""How long a GPU may take to finish the work it was given before the failure."""


def can_go_on(device: str, seconds: float = ANSWER_SECONDS) -> bool:
    """Return whether this process can run another trial on `device`.

    After some CUDA errors (a failed assertion in a kernel, an illegal address, a hardware fault) every CUDA
    call of the process fails until it ends. A device that does not answer in time counts as lost too.
    """
    if torch.device(device).type != "cuda" or not torch.cuda.is_initialized():
        return True
    answered = threading.Event()

    def ask() -> None:
        with contextlib.suppress(Exception):
            torch.cuda.synchronize(device)
            answered.set()

    asking = threading.Thread(target=ask, name="health", daemon=True)
    asking.start()
    asking.join(seconds)
    return answered.is_set()
