"""Parameter groups: parameters with a learning rate and a weight decay of their own."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.registry import Options, Registry
from trainer.schema import check

if TYPE_CHECKING:
    from torch import nn

    from trainer.models import ModelOptions

parameter_groups: Registry[ParameterGroupOptions] = Registry("parameter group", __name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterGroupOptions(Options, abc.ABC):
    """How the parameters of one group are trained. What is None is as in the rest of the config."""

    registry: ClassVar[Registry[ParameterGroupOptions]] = parameter_groups
    in_epochs: ClassVar[tuple[str, ...]] = ("epochs",)
    lr: float | None = None
    """The group's peak learning rate."""
    weight_decay: float | None = None
    """The group's weight decay."""
    epochs: float | None = None
    """Train the group for so many epochs, then freeze it, which saves its part of the backward pass."""
    anneal: bool = False
    """Let the learning rate fall in a straight line to 0 over `epochs`, instead of along the schedule."""

    def __post_init__(self) -> None:
        check(self.lr is None or self.lr > 0, "lr", "must be > 0, got {}", self.lr)
        decay = self.weight_decay
        check(decay is None or decay >= 0, "weight_decay", "must be >= 0, got {}", decay)
        check(self.epochs is None or self.epochs > 0, "epochs", "must be > 0, got {}", self.epochs)
        check(not self.anneal or self.epochs is not None, "anneal", "needs epochs, the time to fall in")

    def check(self, model: ModelOptions) -> None:
        """Raise ConfigError if the network has no such parameters."""

    @abc.abstractmethod
    def select(self, network: nn.Module) -> list[nn.Parameter]:
        """Return the network's parameters that belong to the group."""
