"""The offsets of batch normalisation layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.parameter_groups import ParameterGroupOptions, parameter_groups
from trainer.schema import check

if TYPE_CHECKING:
    from torch import nn

    from trainer.models import ModelOptions


@parameter_groups.register("bn_bias")
@dataclass(frozen=True, kw_only=True, slots=True)
class BNBias(ParameterGroupOptions):
    """Every batch normalisation's bias. With frozen scales, it trains best at a much higher rate."""

    def check(self, model: ModelOptions) -> None:
        has_any = getattr(model, "batch_norm", True)
        check(has_any, "", "has no effect: {} has no batch normalisation", model.label)

    def select(self, network: nn.Module) -> list[nn.Parameter]:
        from torch.nn.modules.batchnorm import _BatchNorm

        norms = (layer for layer in network.modules() if isinstance(layer, _BatchNorm))
        return [layer.bias for layer in norms if layer.bias is not None]
