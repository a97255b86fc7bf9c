"""Model families: torch-free options in each module, the network beside them in its package."""

from __future__ import annotations

import abc
import functools
from typing import TYPE_CHECKING, ClassVar

from trainer.datasets import DataSpec
from trainer.registry import Options, Registry
from trainer.schema import check, field_types

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


MAX_OPTION = 10_000
"""Of depths, widths and the like: more than any network has that was ever trained."""
MAX_MACS = 10**14
"""Of one image: thousands of times those of the largest networks here."""


@functools.lru_cache(maxsize=2**12)
def check_size(model: ModelOptions, data: DataSpec) -> None:
    """Raise ConfigError if a network is absurdly large: building it would take the machine down."""
    for name in field_types(type(model)):
        value = getattr(model, name)
        for number in value if isinstance(value, tuple) else [value]:
            if type(number) is int:
                check(abs(number) <= MAX_OPTION, name, f"must be at most {MAX_OPTION:,}, got {number:,}")
    macs = model.macs(data) or 0
    check(macs <= MAX_MACS, "", f"takes {macs:.0e} multiply-accumulates an image; the most is {MAX_MACS:.0e}")
