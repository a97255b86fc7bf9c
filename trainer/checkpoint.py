"""Checkpoints: written atomically, checked whole, loaded without unpickling."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from trainer import files

DIGEST_SIZE = hashlib.sha256().digest_size


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used: damaged, or of another trial."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` so that a kill at any instant leaves the old file or the new one, whole.

    The file is what `torch.save` writes and its SHA-256, which `torch.load` overlooks.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as partial, partial.open("wb") as file:
        file.write(content)
        file.write(hashlib.sha256(content).digest())


def load(path: Path) -> dict[str, Any] | None:
    """Read what `save` wrote, onto the CPU; None where there is no file.

    Raises:
        CheckpointError: the file is damaged, or holds anything but tensors and plain values.
    """
    if not path.exists():
        return None
    try:
        file = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"checkpoint {path.name} cannot be read: {error.strerror}") from error
    content, digest = file[:-DIGEST_SIZE], file[-DIGEST_SIZE:]
    # The sums within the zip do not cover its directory, nor does torch.load check them.
    if hashlib.sha256(content).digest() != digest:
        raise CheckpointError(f"checkpoint {path.name} is damaged")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # may be anything; torch's own messages advise to unpickle
        raise CheckpointError(f"checkpoint {path.name} cannot be loaded safely") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"checkpoint {path.name} is not a trial's")
    return state


def steps_in(path: Path) -> int:
    """Return how many steps the trial of a checkpoint has taken; -1 where there is none that can be used."""
    try:
        state = load(path) or {}
    except CheckpointError:
        return -1
    step = state.get("step", -1)
    return step if isinstance(step, int) else -1
