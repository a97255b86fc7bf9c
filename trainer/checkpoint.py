"""Checkpoints: written atomically, checked whole, loaded without unpickling."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used: damaged, or of another trial."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` so that a kill at any instant leaves the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=path.name, suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def load(path: Path) -> dict[str, Any] | None:
    """Read what `save` wrote, onto the CPU; None where there is no file.

    Raises:
        CheckpointError: the file is damaged, or holds anything but tensors and plain values.
    """
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load itself does not check the sums
        if damaged:
            raise CheckpointError(f"{damaged} is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        raise CheckpointError(f"checkpoint {path.name} cannot be read: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"checkpoint {path.name} is not a trial's")
    return state
