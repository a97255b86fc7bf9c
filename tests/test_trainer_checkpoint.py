"""Checkpoint files: whole or refused, whatever happens to them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer import checkpoint
from trainer.checkpoint import CheckpointError

STATE: dict[str, Any] = {
    "step": 7,
    "history": [{"epoch": 1, "test_loss": None, "lr": 0.1}],
    "model": {"weight": torch.arange(6, dtype=torch.float32).view(2, 3)},
    "rng": torch.get_rng_state(),
}


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "sprung")


def assert_same(found: Any, expected: Any) -> None:
    """Compare nested plain values and tensors, types and all."""
    assert type(found) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


@pytest.fixture
def saved(tmp_path):
    """Return a file that holds STATE, in directories that `save` had to make."""
    path = tmp_path / "work" / "checkpoints" / "trial.ckpt"
    checkpoint.save(path, STATE)
    return path


def test_what_is_saved_is_loaded(saved):
    assert_same(checkpoint.load(saved), STATE)


def test_the_latest_counts_and_nothing_else_is_left(saved):
    checkpoint.save(saved, {"step": 8})
    assert checkpoint.load(saved) == {"step": 8}
    assert list(saved.parent.iterdir()) == [saved]


def test_no_file_is_no_checkpoint(tmp_path):
    assert checkpoint.load(tmp_path / "none.ckpt") is None


def test_plain_torch_reads_it_too(saved):
    assert_same(torch.load(saved, weights_only=True), STATE)


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_is_noticed(saved, mask):
    content = saved.read_bytes()
    for place in [*range(0, len(content), 50), len(content) - 1]:
        damaged = bytearray(content)
        damaged[place] ^= mask
        saved.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"checkpoint trial\.ckpt is damaged"):
            checkpoint.load(saved)


def test_a_cut_or_lengthened_file_is_noticed(saved):
    content = saved.read_bytes()
    for length in [0, 1, 31, 32, 33, *range(100, len(content), 500), len(content) - 1]:
        saved.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            checkpoint.load(saved)
    saved.write_bytes(content + b"\0")
    with pytest.raises(CheckpointError):
        checkpoint.load(saved)


def test_a_pickle_that_runs_code_is_refused_unrun(tmp_path):
    path, sprung = tmp_path / "trial.ckpt", tmp_path / "sprung"
    checkpoint.save(path, {"step": 1, "model": Trap(sprung)})
    with pytest.raises(CheckpointError, match="cannot be loaded safely"):
        checkpoint.load(path)
    assert not sprung.exists()
    torch.load(path, weights_only=False)  # the trap does work
    assert sprung.exists()


def test_a_path_that_is_no_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        checkpoint.load(tmp_path)


def test_anything_but_a_mapping_is_refused(tmp_path):
    path = tmp_path / "trial.ckpt"
    checkpoint.save(path, [1, 2])  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="is not a trial's"):
        checkpoint.load(path)


def test_a_failed_save_leaves_the_old_checkpoint(saved, monkeypatch):
    def full(handle: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(saved, {"step": 8})
    assert_same(checkpoint.load(saved), STATE)
    assert list(saved.parent.iterdir()) == [saved]


def test_a_state_that_cannot_be_written_leaves_the_old_checkpoint(saved):
    with pytest.raises((AttributeError, pickle.PicklingError), match="pickle"):
        checkpoint.save(saved, {"step": lambda: None})
    assert_same(checkpoint.load(saved), STATE)
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize(
    ("state", "steps"), [({"step": 7}, 7), ({}, -1), ({"step": "7"}, -1), ({"step": 0}, 0)]
)
def test_steps_of_a_checkpoint(state: dict[str, object], steps: int, tmp_path: Path) -> None:
    path = tmp_path / "one.pt"
    assert checkpoint.steps_in(path) == -1
    checkpoint.save(path, state)
    assert checkpoint.steps_in(path) == steps
    path.write_bytes(b"damaged")
    assert checkpoint.steps_in(path) == -1
