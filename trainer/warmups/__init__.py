"""Warm-ups: the rise of the learning rate to its peak before the schedule takes over."""

from __future__ import annotations

import abc
from typing import ClassVar

from trainer.registry import Options, Registry

warmups: Registry[WarmupOptions] = Registry("warmup", __name__)


class WarmupOptions(Options, abc.ABC):
    """How the learning rate rises; its epochs are taken out of the main schedule."""

    registry: ClassVar[Registry[WarmupOptions]] = warmups
    in_epochs: ClassVar[tuple[str, ...]] = ("epochs",)
    __slots__ = ()
    epochs: float

    @abc.abstractmethod
    def factor(self, epoch: float) -> float:
        """Return lr / peak lr at a time in epochs, 0 <= epoch < self.epochs."""
