"""Check what this machine can run, and what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from gridrun import resources
from gridrun.errors import StoreError
from gridrun.store import Store
from gridrun.sweep import provenance
from gridrun.text import number_of
from trainer.datasets import datasets, published

_PACKAGES = (
    "torch",
    "torchvision",
    "ray",
    "pandas",
    "pyarrow",
    "click",
    "rich",
    "PyYAML",
    "scikit-learn",
    "filelock",
    "matplotlib",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    what: str
    found: str
    ok: bool = True


def examine(results: Path) -> list[Finding]:
    """Check the code, the packages, the CPUs and GPUs, the data sets and the store."""
    code = provenance.of_code()
    changes = " with changes" if code.dirty else ""
    commit = f"commit {code.commit[:12]}{changes}" if code.commit else "no git checkout"
    return [
        Finding("gridrun", f"{code.gridrun_version}, {commit}"),
        Finding("python", f"{platform.python_version()} on {platform.platform()}"),
        *map(_package, _PACKAGES),
        _cpus(),
        _gpus(),
        _directory("cache", resources.default_cache_dir()),
        *_data_sets(),
        _store(results),
    ]


def _package(name: str) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "is not installed: pip install -r requirements.txt", ok=False)


def _cpus() -> Finding:
    slow = ", ".join(sorted(resources.slow_precisions()))
    return Finding("cpus", f"{resources.num_cpus()}{f', slow in {slow}' if slow else ''}")


def _gpus() -> Finding:
    try:
        import torch

        usable = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    except Exception as error:  # a broken driver or build may raise anything
        return Finding("gpus", f"torch cannot list them: {error}", ok=False)
    if not usable and (present := resources.gpu_names()):
        why = resources.torch_gpus()[1] or "its CUDA finds none"
        return Finding("gpus", f"{', '.join(present)}, which torch cannot use: {why}", ok=False)
    return Finding("gpus", ", ".join(usable) or "none; trials run on CPUs")


def _data_sets() -> list[Finding]:
    from trainer import data

    cache = resources.default_cache_dir()
    decoded: list[str] = []
    missing: list[str] = []
    for name in published():
        if datasets.get(name)().spec.streamed:
            continue  # it is read in place: nothing to decode or download
        (decoded if data.is_cached(datasets.get(name)(), cache) else missing).append(name)
    return [
        Finding("data sets decoded", ", ".join(decoded) or "none yet"),
        Finding(
            "data sets to come",
            f"{', '.join(missing) or 'none'} (archives in {resources.default_data_dir()}, or downloaded)",
        ),
    ]


def _directory(what: str, path: Path) -> Finding:
    existing = next(p for p in (path, *path.parents) if p.exists())
    free_gib = shutil.disk_usage(existing).free / 2**30
    return Finding(what, f"{path}, {free_gib:.0f} GiB free", ok=os.access(existing, os.W_OK) and free_gib > 1)


def _store(results: Path) -> Finding:
    try:
        trials = len(Store(results).statuses())
    except StoreError as error:
        return Finding("results", str(error), ok=False)
    directory = _directory("results", results.absolute())
    return Finding("results", f"{directory.found}, {number_of(trials, 'trial')}", ok=directory.ok)
