"""Energy that a trial takes, from counters of its devices; nothing is estimated.

GPUs count what they take (NVML, from Volta on; needs the package `nvidia-ml-py`). CPU packages count it too
(RAPL; most kernels let only root read it). A counter is of a whole device. So a trial has a number only if it
has whole GPUs, or on the CPU all cores of the machine. Whatever else runs there counts as its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer import files

JOULES_PER_KWH = 3.6e6
RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class Counter:
    """A device's count of the energy that it has taken since some moment."""

    read: Callable[[], float]
    """Returns joules; may raise anything."""
    wraps_at: float | None = None
    """Joules at which it starts at 0 again; None: never."""


@dataclass
class Meter:
    """Adds up what some counters count. Without counters, or once one of them failed, it has no number.

    Args:
        counters: those of the devices.
        kept: file that `keep` writes, for a trial that is interrupted; None: there is none.
        before: joules of the trial up to its last checkpoint; None: nobody knows.
    """

    counters: Sequence[Counter]
    kept: Path | None = None
    before: float | None = 0.0
    _joules: float | None = 0.0
    _last: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.counters:
            self._joules = None
        self.update()

    def update(self) -> None:
        """Read the counters. Call it more often than any of them wraps: once a minute is enough."""
        if self._joules is None:
            return
        try:
            now = [float(counter.read()) for counter in self.counters]
        except Exception:  # a driver's library may raise anything, and no trial should fail for it
            self._joules = None
            return
        for counter, old, new in zip(self.counters, self._last, now, strict=False):
            if new < old and counter.wraps_at is None:
                self._joules = None  # the driver was loaded again
                return
            self._joules += new - old + (counter.wraps_at or 0.0 if new < old else 0.0)
        self._last = now

    def keep(self) -> None:
        """Write how much it was up to this checkpoint."""
        self.update()
        total = self._total(resumed=True)
        if self.kept and total is not None:
            with contextlib.suppress(OSError):
                files.write_in_place(self.kept, repr(total))

    def kwh(self, *, resumed: bool) -> float | None:
        """Return the energy so far in kWh, None if it is not known.

        `resumed` says whether the trial went on from its checkpoint; else what was before does not count.
        """
        self.update()
        total = self._total(resumed)
        return None if total is None else total / JOULES_PER_KWH

    def _total(self, resumed: bool) -> float | None:
        before = self.before if resumed else 0.0
        return None if self._joules is None or before is None else before + self._joules


def start(checkpoint: Path, device: str, num_gpus: int, gpu_share: float, threads: int) -> Meter:
    """Return a meter of a trial that starts, or resumes from its checkpoint. Imports torch.

    Args:
        checkpoint: the trial's checkpoint; if there is one, the energy until then is read from beside it.
        device, gpu_share, threads: as in `Runtime`.
        num_gpus: GPUs of the trial, or processes on the CPU.
    """
    if device.startswith("cuda"):
        counters = nvml_counters(device, num_gpus) if gpu_share >= 1 else []
    else:
        counters = rapl_counters() if threads * num_gpus >= (os.cpu_count() or 1) else []
    kept = checkpoint.with_suffix(".pt.energy")
    before: float | None = 0.0
    if checkpoint.exists():
        try:
            before = max(float(files.read_text(kept)), 0.0)
        except (OSError, ValueError):
            before = None
    return Meter(counters, kept, before)


def nvml_counters(device: str, num_gpus: int) -> list[Counter]:
    """Return the counters of a trial's GPUs, in the order of torch; none if one of them has no counter."""
    try:
        import pynvml
        import torch

        pynvml.nvmlInit()
        first = torch.device(device).index or 0
        uuids = [torch.cuda.get_device_properties(i).uuid for i in range(first, first + num_gpus)]
        handles = [pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}") for uuid in uuids]
        found = [Counter(_millijoules(pynvml, handle)) for handle in handles]
        for counter in found:
            counter.read()
    except Exception:  # no package, no driver, a part of a GPU, an old GPU: each raises something else
        return []
    return found


def _millijoules(pynvml: Any, handle: Any) -> Callable[[], float]:
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3


def rapl_counters(root: Path = RAPL) -> list[Counter]:
    """Return the counters of this machine's CPU packages; none if they cannot be read."""
    found = []
    for zone in sorted(root.glob("intel-rapl:*")):  # AMD's have this name, too
        try:
            if zone.name.count(":") > 1 or not (zone / "name").read_text().startswith("package"):
                continue  # a part of a package, or the whole board with the packages in it
            counter = Counter(_microjoules(zone / "energy_uj"), _microjoules(zone / "max_energy_range_uj")())
            counter.read()
        except (OSError, ValueError):
            return []
        found.append(counter)
    return found


def _microjoules(path: Path) -> Callable[[], float]:
    return lambda: int(path.read_text()) / 1e6
