"""What trials run on: as records name it, and as this machine has it. Torch-free."""

from __future__ import annotations

import functools
import math
import os
import platform
import re
import shutil
import subprocess
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from gridrun.errors import LaunchError
from gridrun.text import number_of

GpusPerTrial: TypeAlias = float | Literal["auto"]
"""A part of a GPU, or a whole number of them; auto: measured for each config."""


def is_share(gpus: GpusPerTrial) -> bool:
    """Return whether Ray can give out so much: a part of one GPU, or whole GPUs; `auto` finds such a one."""
    return gpus == "auto" or 0 <= gpus <= 1 or (math.isfinite(gpus) and gpus > 1 and gpus == int(gpus))


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What trials may take, and what each takes."""

    cpus: int
    gpus: int
    gpus_per_trial: float | None = None
    """Of a trial on one GPU; None: a whole one where there is any."""
    cpus_per_trial: int = 1
    is_measured: bool = False
    """Whether a launch measures how many trials share a GPU (`gpus_per_trial: auto`)."""

    def share(self, num_gpus: float = 1) -> tuple[float, float]:
        """Return the CPUs and GPUs of a trial on `num_gpus`."""
        cpus = self.cpus_per_trial * max(int(num_gpus), 1)
        if num_gpus == 1 and self.gpus_per_trial is not None:
            return cpus, self.gpus_per_trial
        return cpus, num_gpus if self.gpus else 0

    def slots(self, num_gpus: float = 1) -> int:
        """Return how many such trials run side by side; 0 where none fits."""
        cpus, gpus = self.share(num_gpus)
        room = self.cpus / cpus
        if gpus:
            beside = math.floor(1 / gpus + 1e-9) if gpus < 1 else 1 / gpus  # ten tenths of a GPU are one
            room = min(room, self.gpus * beside)
        return math.floor(room + 1e-9)

    @property
    def unit(self) -> str:
        """What is counted: the scarcer thing."""
        return "GPU" if self.share()[1] else "core"

    def taken(self, num_gpus: float = 1) -> float:
        """Return how many GPUs, or cores on a machine without, a trial takes."""
        cpus, gpus = self.share(num_gpus)
        return gpus or cpus


UNKNOWN = "unknown"
"""Stands for provenance that was not to be had."""
_NVIDIA = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a trial's speed depends on: the GPU, or the CPU and its share of it."""

    name: str
    is_gpu: bool


HARDWARE_KEYS = ("gpu", "gpu_share", "cpu", "device", "threads")
"""Of a record: what `hardware_of` looks at."""


def hardware_of(record: Mapping[str, Any]) -> Hardware:
    """Return what a record says its trial has run on."""
    return _hardware(*map(record.get, HARDWARE_KEYS))


@functools.lru_cache
def _hardware(gpu: Any, share: Any, cpu: Any, device: Any, threads: Any) -> Hardware:
    if isinstance(gpu, str) and gpu and not str(device or "").startswith("cpu"):
        return _gpu_share(gpu, share)
    return _cpu_share(cpu if isinstance(cpu, str) and cpu else UNKNOWN, threads)


def this_machine(gpus: float, threads: int) -> Hardware:
    """Return what a trial on this machine would run on.

    Args:
        gpus: of a trial, though this machine may have none.
        threads: CPU threads of a trial without.
    """
    if not gpus:
        return _cpu_share(cpu_name() or UNKNOWN, threads)
    names = gpu_names()
    return _gpu_share(names[0] if names else "GPU of another machine", gpus)


def _gpu_share(gpu: str, share: Any) -> Hardware:
    """Name a GPU and the part of it that a trial has."""
    is_part = isinstance(share, (int, float)) and share < 1
    return Hardware(f"{share:.4g} of a {gpu}" if is_part else gpu, is_gpu=True)


def _cpu_share(cpu: str, threads: Any) -> Hardware:
    """Name a CPU and how many threads of it a trial has; a data frame holds NaN where there is no number."""
    if isinstance(threads, (int, float)) and threads > 0:
        cpu += f", {number_of(int(threads), 'thread')}"
    return Hardware(cpu, is_gpu=False)


@functools.cache
def cpu_name() -> str | None:
    """Return the name of this machine's CPU."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or None


def capacity(
    cpus: int | None = None,
    gpus: int | None = None,
    gpus_per_trial: GpusPerTrial | None = None,
    cpus_per_trial: int = 1,
) -> Capacity:
    """Return what trials may take; None: what this machine has.

    A machine with more GPUs than this one is thought to have the CPUs that trials on them need.
    """
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
    )


def num_cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Gpu(NamedTuple):
    name: str
    uuid: str


@functools.cache
def gpu_names() -> list[str]:
    """Return the name of each GPU that torch would find, told by the driver; empty where there is none."""
    gpus = _driver_gpus() or _tool_gpus()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [gpu.name for gpu in gpus]
    if num_parts():
        gpus = [*gpus, *_parts()]
    names: list[str] = []
    for chosen in map(str.strip, visible.split(",")):
        if chosen.isdigit():
            found = gpus[int(chosen) :][:1]
        else:
            found = [gpu for gpu in gpus if chosen and gpu.uuid.startswith(chosen)]
        if not found:
            break  # CUDA stops at the first that is none
        names.append(found[0].name)
    return names


def num_parts() -> int:
    """Return how many of the visible GPUs are parts of one (MIG). torch finds one in a process, at most."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return sum(chosen.strip().startswith("MIG-") for chosen in visible.split(","))


def torch_gpus() -> tuple[int, str]:
    """Return how many GPUs torch can use, and what it says where there is none. Imports torch."""
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if torch.version.cuda is None:
        return found, "this torch is built for CPUs"
    return max(found, num_parts()) if found else 0, " ".join(str(said[0].message).split()) if said else ""


def check_gpus(wanted: int) -> None:
    """Refuse more GPUs than torch can use. Imports torch.

    Raises:
        LaunchError: there are fewer.
    """
    found, why = torch_gpus()
    if wanted > found:
        why = f" ({why})" if why and not found else ""
        raise LaunchError(f"--gpus {wanted}: torch finds {found} on this machine{why}")


def _driver_gpus() -> list[_Gpu]:
    try:
        found = [(gpu / "information").read_text() for gpu in sorted(_NVIDIA.iterdir())]
    except OSError:
        return []
    gpus = (_Gpu(_entry("Model", text), _entry("GPU UUID", text)) for text in found)
    return [gpu for gpu in gpus if gpu.name]


def _entry(name: str, text: str) -> str:
    found = re.search(rf"^{name}:\s*(.+?)\s*$", text, re.MULTILINE)
    return found[1] if found else ""


def _tool_gpus() -> list[_Gpu]:
    """Ask NVIDIA's tool, which is there where a container hides the driver's files."""
    lines = _ask_tool("--query-gpu=uuid,name", "--format=csv,noheader")
    return [_Gpu(name.strip(), uuid.strip()) for uuid, _, name in (line.partition(",") for line in lines)]


def _parts() -> list[_Gpu]:
    """Return the parts of GPUs (MIG), called as CUDA calls them."""
    parts, whole = [], ""
    for line in _ask_tool("-L"):
        if gpu := re.match(r"GPU \d+: (.+?) \(UUID", line):
            whole = gpu[1]
        elif part := re.match(r"\s*(MIG \S+)\s.*\(UUID: (MIG-[^)]+)\)", line):
            parts.append(_Gpu(f"{whole} {part[1]}", part[2]))
    return parts


def _ask_tool(*question: str) -> list[str]:
    if not (tool := shutil.which("nvidia-smi")):
        return []
    try:
        done = subprocess.run([tool, *question], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line for line in done.stdout.splitlines() if line.strip()]


def gpu_label(name: str) -> str:
    """Return what a GPU is called that CUDA_VISIBLE_DEVICES knows by number or by UUID."""
    return f"GPU {name}" if name.isdigit() else name[: len("GPU-01234567")]


def default_data_dir() -> Path:
    """Return where the user keeps data-set archives: `GRIDRUN_DATA`, else `data`."""
    return Path(os.environ.get("GRIDRUN_DATA") or "data").absolute()


def default_cache_dir() -> Path:
    """Return where decoded data sets are kept: `GRIDRUN_CACHE`, else the user's cache directory."""
    from trainer.runtime import user_cache_dir  # here, so that --help does not import the trainer

    chosen = os.environ.get("GRIDRUN_CACHE")
    return Path(chosen).absolute() if chosen else user_cache_dir()
