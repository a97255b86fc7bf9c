"""Pre-activation residual networks for small images (He et al., arXiv:1603.05027)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.models import models
from trainer.models._residual import ResidualOptions, preact_suffix

if TYPE_CHECKING:
    from torch import nn

    from trainer.datasets import DataSpec


@models.register("resnet_preact")
@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetPreactOptions(ResidualOptions):
    """BN-ReLU before each conv, and the changes to the block of Han et al., arXiv:1610.02915."""

    family: ClassVar[str] = "ResNet-preact"

    remove_first_relu: bool = False
    """No ReLU between a block's first BN and its first conv; a first block that feeds its shortcut
    from after BN-ReLU (`preact_stage`) keeps it."""
    add_last_bn: bool = False
    """One more BN at the end of each residual branch."""
    preact_stage: tuple[bool, bool, bool] = (True, True, True)
    """By stage: does its first block feed the shortcut from after BN-ReLU, or from its raw input?
    All other shortcuts are the identity on the raw input."""

    @property
    def label(self) -> str:
        label = super(ResNetPreactOptions, self).label  # slots=True makes a new class, unknown to super()
        return label + preact_suffix(self.remove_first_relu, self.add_last_bn, self.preact_stage)

    def build(self, data: DataSpec) -> nn.Module:
        from trainer.models.resnet_preact.network import ResNetPreact

        return ResNetPreact(self, data)
