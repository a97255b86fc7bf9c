"""Tensors on a GPU that is not there: torch's fake tensors know their shape, dtype and device, and no values.

So what puts tensors of two devices into one operation, or asks for a value, fails as it would, or would
wait, on a GPU. torch's autograd engine needs a driver; a backward pass is therefore replaced by gradients of
the right kind.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from trainer import loop
from trainer.learner import Learner

DEVICE = torch.device("cuda", 0)


class Generator:
    """Stands for a generator: what it draws has no values."""

    def __init__(self, device: Any = "cpu") -> None:
        self.device = DEVICE if torch.device(device).type == "cuda" else torch.device("cpu")

    def manual_seed(self, seed: int) -> Generator:
        return self

    def get_state(self) -> Tensor:
        return torch.zeros(16, dtype=torch.uint8)

    def set_state(self, state: Tensor) -> Generator:
        assert not state.is_cuda
        return self


def _drawn_by(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return torch's `draw`, with stand-ins for generators, which must be of the device of what they draw."""

    def drawn(*args: Any, generator: Generator | None = None, device: Any = "cpu", **more: Any) -> Tensor:
        assert generator is None or generator.device.type == torch.device(device).type
        return draw(*args, device=device, **more)

    return drawn


class NoWaiting(TorchDispatchMode):
    """Refuses to copy between devices. What asks for a value of a fake tensor fails by itself."""

    inside = False

    def __enter__(self) -> NoWaiting:
        NoWaiting.inside = True
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        NoWaiting.inside = False
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_):
            source = args[1] if func.overloadpacket is torch.ops.aten.copy_ else args[0]
            assert source.device == found.device, f"copied from {source.device} to {found.device}"
        return found


def _value(tensor: Tensor) -> float:
    assert not (NoWaiting.inside and tensor.is_cuda), "waits for the device"
    return 1.0


def _backward(learner: Learner) -> None:
    beside = learner.selection.model.parameters() if learner.selection else ()
    for parameter in (*learner.model.parameters(), *beside):
        grad = torch.zeros_like(parameter)
        parameter.grad = grad if parameter.grad is None else parameter.grad + grad


def _apply(self: nn.Module, convert: Any, recurse: bool = True) -> nn.Module:
    """Stand in for `nn.Module._apply`, which exchanges the insides of tensors, and cannot of fake ones."""
    for module in self.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(convert(parameter.detach()), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = convert(buffer)
    return self


@contextlib.contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the trainer run with device `cuda`. No value is true: what is asked for is 1."""
    train_step = Learner.train_step

    def watched(learner: Learner, *batch: Any) -> None:
        monkeypatch.setattr(Tensor, "backward", lambda loss: _backward(learner))
        with NoWaiting():
            train_step(learner, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "Generator", Generator)
        for name in ("rand", "randint", "randn", "randperm"):
            patch.setattr(torch, name, _drawn_by(getattr(torch, name)))
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
        patch.setattr(torch.cuda, "synchronize", lambda device: None)
        patch.setattr(torch.cuda, "get_device_name", lambda device: "Fake")
        patch.setattr(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
        patch.setattr(torch.cuda, "set_rng_state", lambda state, device: torch.set_rng_state(state))
        patch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2**20)
        patch.setattr(loop, "_reset_process", lambda *arguments: None)
        patch.setattr(Learner, "train_step", watched)
        patch.setattr(nn.Module, "_apply", _apply)
        patch.setattr(FakeTensor, "item", _value, raising=False)
        patch.setattr(FakeTensor, "tolist", lambda self: [_value(self)] * len(self))
        patch.setattr(FakeTensor, "numpy", lambda self: np.ones(self.shape), raising=False)
        # a gradient scaler has to know whether it found an overflow, which is why it is slower
        step = lambda scaler, optimizer, state, *more, **options: optimizer.step(*more, **options)  # noqa: E731
        patch.setattr(torch.amp.GradScaler, "_maybe_opt_step", step)
        # a deep copy as torch makes it copies memory that a fake tensor does not have
        patch.setattr(FakeTensor, "__deepcopy__", lambda self, memo: self.detach().clone(), raising=False)
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
