"""Memory limit and peak memory of one trial, in a process that may have run others before."""

from __future__ import annotations

import gc
import os
import re
import sys
from pathlib import Path

import torch

CONTEXT_BYTES = 512 * 2**20
"""Memory that CUDA itself takes on a GPU for each process, roughly. Tensors cannot use it."""


def limit(device: torch.device, gpu_share: float) -> None:
    """Free the memory of earlier trials of this process, and limit this one to its share of a GPU.

    Without the limit, a trial that takes more than its share makes the others on that GPU run out of memory.

    Args:
        device: the trial's device; nothing happens unless it is a GPU.
        gpu_share: the trial's part of the GPU; 1 or more is all of it.
    """
    if device.type != "cuda":
        return
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    index = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.set_per_process_memory_fraction(memory_fraction(gpu_share, total), index)


def memory_fraction(gpu_share: float, total_bytes: int) -> float:
    """Return the part of a GPU's memory that the tensors of a trial with this share may take."""
    if gpu_share >= 1:
        return 1.0
    return max(gpu_share - CONTEXT_BYTES / total_bytes, gpu_share / 2)


def taken(device: torch.device) -> tuple[int, int]:
    """Return this process's peak memory on a device, and the device's whole memory, in bytes.

    On a GPU the peak includes CUDA's own memory, and what other processes hold at the moment.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        beside = max(0, total - free - torch.cuda.memory_reserved(device))
        return torch.cuda.max_memory_reserved(device) + beside, total
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return round((peak_mib(device) or 0) * 2**20), total


def reset_peak(device: torch.device) -> None:
    """Start measuring the peak again."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)
        except OSError:
            return  # some containers forbid it: the peak is then that of the whole process


def peak_mib(device: torch.device) -> float | None:
    """Return the peak since `reset_peak`, in MiB; None if the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(found[1]) / 2**10 if found else None
