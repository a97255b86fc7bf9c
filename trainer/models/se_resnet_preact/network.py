"""The network of `trainer.models.se_resnet_preact`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from trainer.models.resnet_preact import network as resnet_preact

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.se_resnet_preact import SEResNetPreactOptions


class SqueezeExcitation(nn.Module):
    """Scale each channel by a number in 0..1, computed from the means of all channels."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // reduction, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, kernel_size=1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:  # (N, channels, H, W), unchanged
        gate: Tensor = self.gate(x)  # (N, channels, 1, 1)
        return x * gate


class Network(resnet_preact.Network):
    """ResNet-preact with a gate at the end of each residual branch."""

    def __init__(self, options: SEResNetPreactOptions, data: DataSpec) -> None:
        super().__init__(options, data)
        for stage, widths in zip(self.stages.children(), options.widths, strict=True):
            for block, channels in zip(stage.children(), widths, strict=True):
                assert isinstance(block, resnet_preact.PreactBlock)
                block.residual.append(SqueezeExcitation(channels, options.reduction))
