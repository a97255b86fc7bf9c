"""The classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.parameter_groups import ParameterGroupOptions, parameter_groups

if TYPE_CHECKING:
    from torch import nn


@parameter_groups.register("head")
@dataclass(frozen=True, kw_only=True, slots=True)
class Head(ParameterGroupOptions):
    """Weights and bias of the last linear layer."""

    def select(self, network: nn.Module) -> list[nn.Parameter]:
        from trainer.models._layers import last_linear

        _, head = last_linear(network)
        return list(head.parameters())
