"""Whether a process can go on after a trial of it has failed on a GPU."""

from __future__ import annotations

import contextlib
import threading

import torch

ANSWER_SECONDS = 30.0
"""How long a GPU may take to finish what it was given before the failure."""


def can_go_on(device: str, seconds: float = ANSWER_SECONDS) -> bool:
    """Return whether this process can run another trial on `device`.

    After some errors of CUDA (a failed assertion in a kernel, an illegal address, a fault of the hardware)
    every call of the process fails, until it ends. A device that does not answer in time is lost to it too.
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
