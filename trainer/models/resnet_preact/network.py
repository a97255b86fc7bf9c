"""The network of `trainer.models.resnet_preact`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import StagedNetwork, conv1x1, conv3x3, conv7x7, residual_convs, stacked

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.resnet_preact import ResNetPreactImageNetOptions, ResNetPreactOptions


class PreactBlock(nn.Module):
    """BN-ReLU-conv, two or three times, and a shortcut without BN.

    With `preact_shortcut`, the shortcut starts after the first BN-ReLU, not at the raw input.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        stride: int,
        options: ResNetPreactOptions | ResNetPreactImageNetOptions,
        preact_shortcut: bool,
    ) -> None:
        super().__init__()
        self.preact_shortcut = preact_shortcut
        self.first_relu = preact_shortcut or not options.remove_first_relu
        self.norm = nn.BatchNorm2d(c_in)
        self.residual = nn.Sequential(*residual_convs(options.block_type, c_in, c_out, stride))
        if options.add_last_bn:
            self.residual.append(nn.BatchNorm2d(c_out))
        same_shape = c_in == c_out and stride == 1
        self.shortcut = nn.Identity() if same_shape else conv1x1(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:  # (N, c_in, H, W) -> (N, c_out, H/stride, W/stride)
        y = self.norm(x)
        if self.first_relu:
            y = F.relu(y, inplace=True)
        shortcut: Tensor = self.shortcut(y if self.preact_shortcut else x)
        residual: Tensor = self.residual(y)
        return residual + shortcut


class Network(StagedNetwork):
    """A ResNet-preact, with three stages, or four for ImageNet."""

    def __init__(self, options: ResNetPreactOptions | ResNetPreactImageNetOptions, data: DataSpec) -> None:
        c_in = options.stem_channels
        if options.imagenet_stem:
            conv = conv7x7(data.channels, c_in, stride=2)
            stem: nn.Module = nn.Sequential(conv, nn.MaxPool2d(3, stride=2, padding=1))
        else:
            stem = conv3x3(data.channels, c_in)
        stages = stacked(
            [PreactBlock(*shape, options, preact and not index) for index, shape in enumerate(stage)]
            for preact, stage in zip(options.preact_stage, options.stages, strict=True)
        )
        super().__init__(stem, stages, options.widths[-1][-1], data.num_classes, last_norm=True)
