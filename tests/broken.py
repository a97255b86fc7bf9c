"""Models that fail in one way each. They are not registered, so that no grid can name them."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tiny import TinyNet

if TYPE_CHECKING:
    from torch import nn

    from trainer.datasets import DataSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class RaisingNet(TinyNet):
    """Raises an error when it is built."""

    name: ClassVar[str] = "raising_net"

    def build(self, data: DataSpec) -> nn.Module:
        raise ArithmeticError("no such network\nand a second line")


@dataclass(frozen=True, kw_only=True, slots=True)
class DyingNet(TinyNet):
    """Kills its process when it is built, the first `deaths` times."""

    name: ClassVar[str] = "dying_net"
    log: str = ""
    deaths: int = 1

    def build(self, data: DataSpec) -> nn.Module:
        log = Path(self.log)
        if len(log.read_text() if log.exists() else "") < self.deaths:
            with log.open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return TinyNet.build(self, data)


@dataclass(frozen=True, kw_only=True, slots=True)
class FlakyNet(TinyNet):
    """Raises an error when it is built, the first `failures` times."""

    name: ClassVar[str] = "flaky_net"
    log: str = ""
    failures: int = 1
    error: str = "RuntimeError"

    def build(self, data: DataSpec) -> nn.Module:
        log = Path(self.log)
        if len(log.read_text() if log.exists() else "") < self.failures:
            with log.open("a") as file:
                file.write("x")
            raise _error(self.error)
        return TinyNet.build(self, data)


@dataclass(frozen=True, kw_only=True, slots=True)
class SealingNet(TinyNet):
    """Makes its store refuse records, as a full disk would."""

    name: ClassVar[str] = "sealing_net"
    results: str = ""

    def build(self, data: DataSpec) -> nn.Module:
        ended = Path(self.results) / ".work" / "ended"
        ended.rename(ended.with_name("aside"))
        ended.touch()
        return TinyNet.build(self, data)


@dataclass(frozen=True, kw_only=True, slots=True)
class DyingInTrainingNet(TinyNet):
    """Kills its process at training step `at`, once."""

    name: ClassVar[str] = "dying_in_training_net"
    log: str = ""
    at: int = 5

    def build(self, data: DataSpec) -> nn.Module:
        network = TinyNet.build(self, data)
        steps = 0

        def count(module: nn.Module, *_: object) -> None:
            nonlocal steps
            steps += module.training
            if steps == self.at and not Path(self.log).exists():
                Path(self.log).touch()
                os.kill(os.getpid(), signal.SIGKILL)

        network.register_forward_hook(count)
        return network


@dataclass(frozen=True, kw_only=True, slots=True)
class LosingNet(TinyNet):
    """Cannot be built any more in a process that has built a faulty one, as after a lasting CUDA error."""

    name: ClassVar[str] = "losing_net"
    faulty: bool = False

    def build(self, data: DataSpec) -> nn.Module:
        from trainer import health

        if self.faulty:
            health.can_go_on = _cannot
        if health.can_go_on is _cannot:
            raise RuntimeError("CUDA error: unspecified launch failure")
        return TinyNet.build(self, data)


def _cannot(device: str) -> bool:
    return False


def _error(name: str) -> Exception:
    """Return an error such as the library raises."""
    import torch

    from trainer.datasets import DataError
    from trainer.parallel import ParallelError

    errors = {
        "RuntimeError": RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        "DataError": DataError("data set 'tiny_images' is not to be had"),
        "torch.OutOfMemoryError": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        "of a rank": ParallelError("rank 1: torch.OutOfMemoryError: CUDA out of memory. Tried"),
        "rank killed": ParallelError("rank 1 was killed by SIGKILL"),
        "MemoryError": MemoryError(),
        "DefaultCPUAllocator": RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
            "you tried to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"
        ),
    }
    return errors[name]
