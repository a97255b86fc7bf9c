"""The offsets of batch normalisation layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.parameter_groups import ParameterGroupOptions, parameter_groups

if TYPE_CHECKING:
    from torch import nn


@parameter_groups.register("bn_bias")
@dataclass(frozen=True, kw_only=True, slots=True)
class BNBias(ParameterGroupOptions):
    """Every batch normalisation's bias. With frozen scales, it trains best at a much higher rate."""

    def select(self, network: nn.Module) -> list[nn.Parameter]:
        from torch.nn.modules.batchnorm import _BatchNorm

        norms = (layer for layer in network.modules() if isinstance(layer, _BatchNorm))
        return [layer.bias for layer in norms if layer.bias is not None]
