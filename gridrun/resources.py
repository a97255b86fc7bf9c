"""CPUs and GPUs: what trials take, what this machine has, and what records call it. Torch-free on import."""

from __future__ import annotations

import functools
import math
import os
import platform
import re
import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from gridrun.errors import LaunchError
from gridrun.text import number_of

GpusPerTrial: TypeAlias = float | Literal["auto"]
"""Part of a GPU, or a whole number of GPUs. `auto`: measured for each config."""

CpusPerTrial: TypeAlias = int | Literal["auto"]
"""CPU threads. `auto`: measured for each config."""


def is_share(gpus: GpusPerTrial) -> bool:
    """Return whether Ray can give a trial so many GPUs: a part of one, whole ones, or `auto`."""
    return gpus == "auto" or 0 <= gpus <= 1 or (math.isfinite(gpus) and gpus > 1 and gpus == int(gpus))


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """How many CPUs and GPUs there are for trials, and how many each trial takes."""

    cpus: int
    gpus: int
    gpus_per_trial: float | None = None
    """GPUs of a trial with `num_gpus` 1. None: a whole one if there are any."""
    cpus_per_trial: int = 1
    is_measured: bool = False
    """Whether the launch measures how many trials share a GPU (`gpus_per_trial: auto`)."""
    measures_threads: bool = False
    """Whether the launch measures how many threads a trial has on CPUs (`--cpus-per-trial auto`)."""

    def share(self, num_gpus: float = 1) -> tuple[float, float]:
        """Return how many CPUs and GPUs a trial on `num_gpus` takes."""
        cpus = self.cpus_per_trial * max(int(num_gpus), 1)
        if num_gpus == 1 and self.gpus_per_trial is not None:
            return cpus, self.gpus_per_trial
        return cpus, num_gpus if self.gpus else 0

    def slots(self, num_gpus: float = 1) -> int:
        """Return how many trials on `num_gpus` run side by side; 0 if none fits."""
        cpus, gpus = self.share(num_gpus)
        room = self.cpus / cpus
        if gpus:
            per_gpu = math.floor(1 / gpus + 1e-9) if gpus < 1 else 1 / gpus  # 1e-9: ten times 0.1 is one GPU
            room = min(room, self.gpus * per_gpu)
        return math.floor(room + 1e-9)

    @property
    def unit(self) -> str:
        """What hours are counted in: GPUs if trials take any, else cores."""
        return "GPU" if self.share()[1] else "core"

    def taken(self, num_gpus: float = 1) -> float:
        """Return how many GPUs a trial takes, or how many cores if it takes no GPU."""
        cpus, gpus = self.share(num_gpus)
        return gpus or cpus


def capacity(
    cpus: int | None = None,
    gpus: int | None = None,
    gpus_per_trial: GpusPerTrial | None = None,
    cpus_per_trial: CpusPerTrial = 1,
) -> Capacity:
    """Return the capacity for trials. CPUs and GPUs that are None are those of this machine.

    If `gpus` is more than this machine has, it gets as many CPUs as trials on these GPUs need. What is
    measured later (`auto`) counts as one thread, and as a whole GPU.
    """
    measures_threads = cpus_per_trial == "auto"
    cpus_per_trial = 1 if cpus_per_trial == "auto" else cpus_per_trial
    here = len(gpu_names())
    gpus = here if gpus is None else gpus
    share = None if gpus_per_trial == "auto" else gpus_per_trial
    if cpus is None:
        side_by_side = gpus / (share or 1.0) if gpus > here else 0.0
        cpus = max(num_cpus(), math.ceil(side_by_side * cpus_per_trial))
    return Capacity(
        cpus=cpus,
        gpus=gpus,
        gpus_per_trial=share,
        cpus_per_trial=cpus_per_trial,
        is_measured=gpus_per_trial == "auto" and gpus > 0,
        measures_threads=measures_threads and not gpus,
    )


_NVIDIA = Path("/proc/driver/nvidia/gpus")


def num_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_CPUINFO = Path("/proc/cpuinfo")


@functools.cache
def cpu_name() -> str | None:
    """Return the name of this machine's CPU."""
    return _cpuinfo("model name") or platform.processor() or None


@functools.cache
def slow_precisions() -> frozenset[str]:
    """Return the precisions in which this machine's CPU is known to train many times slower than in fp32.

    Their products need instructions that few CPUs have (docs/log.md says how slow others are).
    """
    flags = set((_cpuinfo("flags") or "").split())  # of x86; other CPUs call theirs otherwise
    bf16 = frozenset[str]() if flags & {"avx512_bf16", "amx_bf16"} else frozenset({"mixed_bf16"})
    fp16 = frozenset[str]() if "amx_fp16" in flags else frozenset({"mixed_fp16", "pure_fp16"})
    return bf16 | fp16 if flags else frozenset()


def _cpuinfo(key: str) -> str | None:
    try:
        found = re.search(rf"^{key}[ \t]*:[ \t]*(\S.*)$", _CPUINFO.read_text(), re.MULTILINE)
    except OSError:
        return None
    return found[1] if found else None


class _Gpu(NamedTuple):
    name: str
    uuid: str


@functools.cache
def gpu_names() -> list[str]:
    """Return the name of each GPU that torch would find, as the driver tells it."""
    gpus, parts = _gpus_of_driver(), list[_Gpu]()
    if not gpus or num_parts():
        gpus, parts = _gpus_of_tool()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [gpu.name for gpu in gpus]
    names: list[str] = []
    for chosen in map(str.strip, visible.split(",")):
        if chosen.isdigit():
            found = gpus[int(chosen) :][:1]
        else:
            found = [gpu for gpu in (*gpus, *parts) if chosen and gpu.uuid.startswith(chosen)]
        if not found:
            break  # CUDA ignores all that follows an entry it does not know
        names.append(found[0].name)
    return names


def num_parts() -> int:
    """Return how many of the visible devices are parts of a GPU (MIG). torch uses one per process at most."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return sum(chosen.strip().startswith("MIG-") for chosen in visible.split(","))


def gpu_label(name: str) -> str:
    """Return a short name for an entry of CUDA_VISIBLE_DEVICES, which is a number or a UUID."""
    return f"GPU {name}" if name.isdigit() else name[: len("GPU-01234567")]


def _gpus_of_driver() -> list[_Gpu]:
    try:
        texts = [(gpu / "information").read_text() for gpu in sorted(_NVIDIA.iterdir())]
    except OSError:
        return []
    found = (dict(re.findall(r"^(.+?):\s*(.+?)\s*$", text, re.MULTILINE)) for text in texts)
    return [_Gpu(gpu["Model"], gpu.get("GPU UUID", "")) for gpu in found if "Model" in gpu]


def _gpus_of_tool() -> tuple[list[_Gpu], list[_Gpu]]:
    """Return the GPUs that nvidia-smi lists, and their parts (MIG) with the names that CUDA gives them.

    It also works in containers that hide the driver's files.
    """
    gpus: list[_Gpu] = []
    parts: list[_Gpu] = []
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return gpus, parts
    for line in done.stdout.splitlines():
        if gpu := re.match(r"GPU \d+: (.+?) \(UUID: ([^)]+)\)", line):
            gpus.append(_Gpu(gpu[1], gpu[2]))
        elif part := re.match(r"\s*(MIG \S+)\s.*\(UUID: (MIG-[^)]+)\)", line):
            parts.append(_Gpu(f"{gpus[-1].name} {part[1]}", part[2]))
    return gpus, parts


def torch_gpus() -> tuple[int, str]:
    """Return how many GPUs torch can use, and its reason if there are none. Imports torch."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if torch.version.cuda is None:
        return found, "this torch is built for CPUs"
    reason = " ".join(str(caught[0].message).split()) if caught else ""
    return max(found, num_parts()) if found else 0, reason


def check_gpus(wanted: int) -> None:
    """Raise LaunchError if torch can use fewer GPUs. Imports torch."""
    found, reason = torch_gpus()
    if wanted > found:
        why = f" ({reason})" if reason and not found else ""
        raise LaunchError(f"--gpus {wanted}: torch finds {found} on this machine{why}")


UNKNOWN = "unknown"  # stands for provenance that a record lacks
HARDWARE_KEYS = ("gpu", "gpu_share", "cpu", "device", "threads")
"""Columns of a record that `hardware_of` takes."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a trial's speed depends on: the GPU and the part of it, or the CPU and its threads."""

    name: str
    is_gpu: bool


@functools.lru_cache
def hardware_of(gpu: Any, share: Any, cpu: Any, device: Any, threads: Any) -> Hardware:
    """Return the hardware that a trial has run on, from its record's `HARDWARE_KEYS`."""
    if isinstance(gpu, str) and gpu and not str(device or "").startswith("cpu"):
        return _of_gpu(gpu, share)
    return _of_cpu(cpu if isinstance(cpu, str) and cpu else UNKNOWN, threads)


ANOTHER_GPU = "GPU of another machine"
"""Stands for a GPU whose name is not known here."""


def this_machine(gpus: float, threads: int) -> Hardware:
    """Return the hardware that a trial on this machine would run on.

    Args:
        gpus: GPUs that the trial takes. This machine may have none; then another one is meant.
        threads: CPU threads of a trial that takes no GPU.
    """
    if not gpus:
        return _of_cpu(cpu_name() or UNKNOWN, threads)
    names = gpu_names()
    return _of_gpu(names[0] if names else ANOTHER_GPU, gpus)


def _of_gpu(gpu: str, share: Any) -> Hardware:
    is_part = isinstance(share, (int, float)) and share < 1
    return Hardware(f"{share:.4g} of a {gpu}" if is_part else gpu, is_gpu=True)


def _of_cpu(cpu: str, threads: Any) -> Hardware:
    if isinstance(threads, (int, float)) and threads > 0:  # NaN in a data frame without a number
        cpu += f", {number_of(int(threads), 'thread')}"
    return Hardware(cpu, is_gpu=False)


def default_data_dir() -> Path:
    """Return where the user keeps data-set archives: `GRIDRUN_DATA`, else `data`."""
    return Path(os.environ.get("GRIDRUN_DATA") or "data").absolute()


def default_cache_dir() -> Path:
    """Return where decoded data sets are kept: `GRIDRUN_CACHE`, else the user's cache directory."""
    from trainer.runtime import user_cache_dir  # here, so that --help does not import the trainer

    chosen = os.environ.get("GRIDRUN_CACHE")
    return Path(chosen).absolute() if chosen else user_cache_dir()
