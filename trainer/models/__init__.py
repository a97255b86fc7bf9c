"""Model families. Each package holds torch-free options, and the class `Network` in `network.py`."""

from __future__ import annotations

import abc
import functools
import importlib
from typing import TYPE_CHECKING, ClassVar

from trainer.datasets import DataSpec
from trainer.registry import Options, Registry
from trainer.schema import check, field_types

if TYPE_CHECKING:
    from torch import nn

models: Registry[ModelOptions] = Registry("model", __name__)


class ModelOptions(Options, abc.ABC):
    """The options of one model family."""

    registry: ClassVar[Registry[ModelOptions]] = models
    __slots__ = ()
    own_init: ClassVar[bool] = False
    """Whether the network has a method `initialise` that draws its weights; then `init` has no effect."""

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """The model's name as tables print it, such as `ResNet-preact-20`."""

    def check(self, data: DataSpec) -> None:
        """Raise ConfigError if the family cannot take such images."""

    def check_batches(self, data: DataSpec, size: int, *, sync_bn: bool) -> None:
        """Raise ConfigError if the network's batch normalisation cannot train on such batches.

        Args:
            data: the images.
            size: images that go through the network at a time, on one GPU.
            sync_bn: whether the statistics are those of all GPUs.
        """

    def macs(self, data: DataSpec) -> int | None:
        """Return the multiply-accumulates of the conv and linear layers for one image.

        This works without torch, so that a plan can estimate the length of trials before any has run. None:
        the family does not provide it; then a plan has the number only from records of finished trials.
        """
        return None

    def build(self, data: DataSpec) -> nn.Module:
        """Return the network, (N, C, H, W) images to (N, num_classes) logits, uninitialised.

        It is the `Network` of the module `network` beside the options. Two things are optional. A method
        `initialise()` draws its first weights from torch's default generator, if the options have `own_init`.
        A method `prepare(images)` computes weights from the first `images_to_prepare` training images,
        (N, C, H, W) float32, normalised and not augmented; it is called before the first step unless that
        number is 0.
        """
        module = importlib.import_module(f"{type(self).__module__}.network")
        network: nn.Module = module.Network(self, data)
        return network


MAX_OPTION = 10_000
"""Limit for depths, widths and the like, beyond any network ever trained."""
MAX_MACS = 10**14
"""Limit for one image, thousands of times what the largest network here takes."""


@functools.lru_cache(maxsize=2**12)
def check_size(model: ModelOptions, data: DataSpec) -> None:
    """Raise ConfigError if a network is so large that building it could crash the machine."""
    for name in field_types(type(model)):
        value = getattr(model, name)
        for number in value if isinstance(value, tuple) else [value]:
            if type(number) is int:
                check(abs(number) <= MAX_OPTION, name, f"must be at most {MAX_OPTION:,}, got {number:,}")
    macs = model.macs(data) or 0
    check(macs <= MAX_MACS, "", f"takes {macs:.0e} multiply-accumulates an image; the most is {MAX_MACS:.0e}")
