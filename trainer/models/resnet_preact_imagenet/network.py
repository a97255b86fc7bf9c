"""The network of `trainer.models.resnet_preact_imagenet`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models._layers import conv7x7
from trainer.models.resnet_preact.network import PreactBlock
from trainer.models.resnet_preact_imagenet import STEM_CHANNELS

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.resnet_preact_imagenet import ResNetPreactImageNetOptions


class ResNetPreactImageNet(nn.Module):
    """Stem, four stages, BN-ReLU, global average pool, linear layer."""

    def __init__(self, options: ResNetPreactImageNetOptions, data: DataSpec) -> None:
        super().__init__()
        c_in = STEM_CHANNELS
        self.stem = nn.Sequential(
            conv7x7(data.channels, c_in, stride=2), nn.MaxPool2d(3, stride=2, padding=1)
        )
        self.stages = nn.Sequential()
        for stage, (c_out, num_blocks) in enumerate(
            zip(options.stage_channels, options.blocks_per_stage, strict=True)
        ):
            first = PreactBlock(c_in, c_out, 2 if stage else 1, options, options.preact_stage[stage])
            rest = [
                PreactBlock(c_out, c_out, 1, options, preact_shortcut=False) for _ in range(num_blocks - 1)
            ]
            self.stages.append(nn.Sequential(first, *rest))
            c_in = c_out
        self.norm = nn.BatchNorm2d(c_in)
        self.head = nn.Linear(c_in, data.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (N, 64, H/4, W/4)
        x = self.stages(x)  # (N, stage_channels[3], H/32, W/32)
        x = F.relu(self.norm(x), inplace=True)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (N, stage_channels[3])
        logits: Tensor = self.head(x)  # (N, num_classes)
        return logits
