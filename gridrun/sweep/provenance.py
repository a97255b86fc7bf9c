"""Where a result comes from: the commit of the code and the machine that trained."""

from __future__ import annotations

import functools
import getpass
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import trainer
from gridrun.errors import GridrunError
from gridrun.resources import cpu_name
from gridrun.store.records import Provenance

_CODE = ("cli.py", "gridrun", "trainer")
"""Paths whose changes make the code dirty. Edited grids and new results do not."""


@functools.cache
def of_code() -> Provenance:
    """Return the commit and versions of the code in use, this machine's name and CPU, and the user."""
    import gridrun

    commit, dirty = _commit(Path(gridrun.__file__).parent.parent)
    return Provenance(
        commit=commit,
        dirty=dirty,
        gridrun_version=gridrun.__version__,
        trainer_version=trainer.VERSION,
        python_version=platform.python_version(),
        host=platform.node(),
        cpu=cpu_name(),
        user=user(),
    )


def of_machine(code: Provenance, device: str, threads: int, sources: Mapping[str, str]) -> Provenance:
    """Add what only the training process knows: its device, GPU, torch and source files. Imports torch."""
    import torch

    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return replace(
        code,
        host=platform.node(),
        cpu=cpu_name(),
        torch_version=str(torch.__version__),
        cuda_version=torch.version.cuda if gpu else None,
        driver_version=_driver() if gpu else None,
        gpu=gpu,
        device=device,
        threads=threads,
        sources=json.dumps(sources),
    )


def user() -> str | None:
    """Return the name of the user; None if the machine knows none, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # KeyError before Python 3.13
        return None


def _commit(root: Path) -> tuple[str | None, bool | None]:
    """Return the commit of the code and whether it has changes, from git, else from GRIDRUN_COMMIT.

    Raises:
        GridrunError: GRIDRUN_COMMIT is no commit.
    """
    if (commit := _git(root, "rev-parse", "HEAD")) is not None:
        changes = _git(root, "status", "--porcelain", "--", *_CODE)
        return commit, changes != "" if changes is not None else None
    if not (given := os.environ.get("GRIDRUN_COMMIT")):
        return None, None
    if not (found := re.fullmatch("([0-9a-f]{40})(-dirty)?", given)):
        raise GridrunError(f"GRIDRUN_COMMIT: must be the 40 digits that git names a commit by, got {given!r}")
    return found[1], found[2] is not None


def _git(root: Path, *arguments: str) -> str | None:
    if not (root / ".git").exists():  # installed inside the repository of another project
        return None
    command = ["git", "-C", str(root), *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _driver() -> str | None:
    """Return the version of Nvidia's driver."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    found = re.search(r"Kernel Module\s+(?:for \S+\s+)?([\d.]+)", text)
    return found[1] if found else None
