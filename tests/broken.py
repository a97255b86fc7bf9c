"""Models that go wrong, each in its way. Not registered, so that they are no choice of a grid."""

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
    """Cannot be built."""

    name: ClassVar[str] = "raising_net"

    def build(self, data: DataSpec) -> nn.Module:
        raise ArithmeticError("no such network\nand a second line")


@dataclass(frozen=True, kw_only=True, slots=True)
class DyingNet(TinyNet):
    """Kills its process when built, until it has done so `deaths` times."""

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
