"""Whether a process can go on after a failure, as far as its GPU tells."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainer.health import can_go_on


def raising(device: object) -> None:
    raise torch.AcceleratorError("CUDA error: device-side assert triggered")


@pytest.mark.parametrize(
    ("synchronize", "expected"),
    [(lambda device: None, True), (raising, False), (lambda device: threading.Event().wait(), False)],
    ids=["answers", "raises", "hangs"],
)
def test_a_gpu_that_raises_or_hangs_is_lost(
    synchronize: Callable[[object], None], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    assert can_go_on("cuda:0", seconds=30 if expected else 0.05) is expected
    assert can_go_on("cpu")


def test_a_gpu_that_was_never_used_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "synchronize", raising)
    assert can_go_on("cuda")


LOSE = """
import torch
from trainer.health import can_go_on

x = torch.zeros(2, device="cuda")
assert can_go_on("cuda")
try:
    x[torch.tensor([9], device="cuda")].cpu()
except RuntimeError as error:
    print(type(error).__name__, str(error).splitlines()[0])
assert not can_go_on("cuda")
"""


@pytest.mark.gpu
def test_gpu_a_failed_assertion_is_for_good() -> None:
    """In a process of its own, which is of no use afterwards."""
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", LOSE], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (
        0,
        "AcceleratorError CUDA error: device-side assert triggered\n",
    ), done.stderr


@pytest.mark.gpu
def test_gpu_too_little_memory_passes() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(2**50, dtype=torch.uint8, device="cuda")
    assert can_go_on("cuda")
