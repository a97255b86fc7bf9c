"""Peak memory of one trial, also in a process that has run others before."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch


def reset_peak(device: torch.device) -> None:
    """Begin to measure afresh."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)
        except OSError:
            return  # not allowed in some containers: the peak is then the process's


def peak_mib(device: torch.device) -> float | None:
    """Return the peak since `reset_peak`, in MiB; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(found[1]) / 2**10 if found else None
