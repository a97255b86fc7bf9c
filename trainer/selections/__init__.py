"""Selections: which images of each batch the network trains on."""

from __future__ import annotations

import abc
import importlib
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from trainer.registry import Options, Registry

if TYPE_CHECKING:
    import torch
    from torch import nn

    from trainer.loss import Batch

selections: Registry[SelectionOptions] = Registry("selection", __name__)


class Selection(Protocol):
    """A selection in progress, with a network of its own."""

    model: nn.Module

    def select(self, batch: Batch) -> Batch:
        """Return the part of a batch to train on. Call it once a step; it does not wait for the device."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that later calls depend on, as tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class SelectionOptions(Options, abc.ABC):
    """The options of one way to select images.

    `config` is the run's `TrainConfig`, which cannot be imported here: it holds these options.
    """

    registry: ClassVar[Registry[SelectionOptions]] = selections
    __slots__ = ()

    @abc.abstractmethod
    def num_kept(self, size: int) -> int:
        """Return how many of the `size` images of a batch are trained on."""

    @abc.abstractmethod
    def check(self, config: Any) -> None:
        """Raise ConfigError if images cannot be selected for such a run."""

    def build(self, config: Any, seed: int, device: torch.device) -> Selection:
        """Return the selection at the start of a run. It seeds torch's default generator.

        It is the class `Selector` of the module `selector` beside the options.
        """
        module = importlib.import_module(f"{type(self).__module__}.selector")
        selection: Selection = module.Selector(self, config, seed, device)
        return selection
