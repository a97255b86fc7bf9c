"""The network of `trainer.models.resnext`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from trainer.models._layers import StagedNetwork, bottleneck_convs, conv3x3, stacked
from trainer.models.resnet.network import ResidualBlock

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.resnext import ResNeXtOptions


class Network(StagedNetwork):
    """A ResNeXt."""

    def __init__(self, options: ResNeXtOptions, data: DataSpec) -> None:
        def block(c_in: int, c_out: int, stride: int) -> ResidualBlock:
            c_inner = options.inner_channels(c_out)
            convs = bottleneck_convs(c_in, c_inner, c_out, stride, groups=options.cardinality)
            return ResidualBlock(c_in, c_out, stride, convs)

        c_in = options.initial_channels
        stem = nn.Sequential(conv3x3(data.channels, c_in), nn.BatchNorm2d(c_in), nn.ReLU(inplace=True))
        stages = stacked([block(*shape) for shape in stage] for stage in options.stages)
        super().__init__(stem, stages, options.widths[-1][-1], data.num_classes, last_norm=False)
