"""Whether a process can go on after a failure, as far as its GPU tells."""

from __future__ import annotations

import threading
from collections.abc import Callable

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
