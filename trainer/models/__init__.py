"""Model families: torch-free options in each module, the network beside them in its package."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar

from trainer.datasets import DataSpec
from trainer.registry import Options, Registry

if TYPE_CHECKING:
    from torch import nn

models: Registry[ModelOptions] = Registry("model", __name__)


class ModelOptions(Options, abc.ABC):
    """One model family's options."""

    registry: ClassVar[Registry[ModelOptions]] = models
    __slots__ = ()

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """The model's name as tables print it, such as `ResNet-preact-20`."""

    def check(self, data: DataSpec) -> None:
        """Raise ConfigError if the family cannot take such images."""

    def macs(self, data: DataSpec) -> int | None:
        """Return the multiply-accumulates of the conv and linear layers for one image.

        Without torch, so that a plan knows the long trials from the short ones before any has run.
        None, where a family does not say: records of trials that are done have the number too.
        """
        return None

    @abc.abstractmethod
    def build(self, data: DataSpec) -> nn.Module:
        """Return the network, (N, C, H, W) images to (N, num_classes) logits, uninitialised."""
