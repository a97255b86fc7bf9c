"""The bias of a whitening layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.parameter_groups import ParameterGroupOptions, parameter_groups
from trainer.schema import check

if TYPE_CHECKING:
    from torch import nn

    from trainer.models import ModelOptions


@parameter_groups.register("whitening_bias")
@dataclass(frozen=True, kw_only=True, slots=True)
class WhiteningBias(ParameterGroupOptions):
    """The bias after a network's fixed whitening filters, as in airbench (arXiv:2404.00498)."""

    def check(self, model: ModelOptions) -> None:
        has_bias = getattr(model, "whitening_bias", "none") != "none"
        check(has_bias, "", "{} has no whitening layer with a bias; take airbench", model.label)

    def select(self, network: nn.Module) -> list[nn.Parameter]:
        return [network.get_submodule("whitening").get_parameter("bias")]
