"""Checkpoint files: written atomically, verified by a digest, read without running code."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from trainer import files

DIGEST_SIZE = hashlib.sha256().digest_size


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used: it is damaged, or belongs to another trial."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint. A kill at any instant leaves the old file or the new one, whole.

    The file holds what `torch.save` writes, then its SHA-256, which `torch.load` ignores.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as partial, partial.open("wb") as file:
        file.write(content)
        file.write(hashlib.sha256(content).digest())


def load(path: Path) -> dict[str, Any] | None:
    """Read what `save` wrote, onto the CPU. Return None if there is no file.

    Raises:
        CheckpointError: the file is damaged, or holds more than tensors and plain values.
    """
    if not path.exists():
        return None
    try:
        with files.open_to_read(path) as opened:
            file = opened.read()
    except OSError as error:
        raise CheckpointError(f"checkpoint {path.name} cannot be read: {error.strerror}") from error
    content, digest = file[:-DIGEST_SIZE], file[-DIGEST_SIZE:]
    # The zip file's own checksums do not cover its directory, and torch.load does not check them.
    if hashlib.sha256(content).digest() != digest:
        raise CheckpointError(f"checkpoint {path.name} is damaged")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # of any type; torch's own messages advise loading without weights_only
        raise CheckpointError(f"checkpoint {path.name} cannot be loaded safely") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"checkpoint {path.name} is not a trial's")
    return state


def steps_in(path: Path) -> int:
    """Return how many steps a checkpoint's trial has taken; -1 if there is no usable checkpoint."""
    try:
        state = load(path) or {}
    except CheckpointError:
        return -1
    step = state.get("step", -1)
    return step if isinstance(step, int) else -1
