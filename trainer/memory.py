"""Peak memory of one trial, also in a process that has run others before."""

from __future__ import annotations

import gc
import os
import re
import sys
from pathlib import Path

import torch

CONTEXT_BYTES = 512 * 2**20
"""Of a GPU's memory that CUDA itself takes for a process, roughly; no tensor can have it."""


def limit(device: torch.device, gpu_share: float) -> None:
    """Give back what earlier trials of this process hold, and keep this one to its share of a GPU.

    Who shares a GPU with a trial that wants more than its share must not be the one to run out of memory.

    Args:
        device: nothing is done but on GPUs.
        gpu_share: of a GPU; from 1 on all of it.
    """
    if device.type != "cuda":
        return
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    index = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.set_per_process_memory_fraction(memory_fraction(gpu_share, total), index)


def memory_fraction(gpu_share: float, total_bytes: int) -> float:
    """Return the part of a GPU's memory that tensors may take, of a trial with a share of it."""
    if gpu_share >= 1:
        return 1.0
    return max(gpu_share - CONTEXT_BYTES / total_bytes, gpu_share / 2)


def taken(device: torch.device) -> tuple[int, int]:
    """Return what this process has taken of a device at its peak, and the device's whole memory, in bytes.

    On a GPU that includes what CUDA takes for the process, and whatever other processes hold just now.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        beside = max(0, total - free - torch.cuda.memory_reserved(device))
        return torch.cuda.max_memory_reserved(device) + beside, total
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return round((peak_mib(device) or 0) * 2**20), total


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
