"""The network of `trainer.models.vgg`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from trainer.models.vgg import STAGES

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.models.vgg import VGGOptions


class Network(nn.Module):
    """Five stages of convs, each ending in a max-pool, and a linear layer."""

    def __init__(self, options: VGGOptions, data: DataSpec) -> None:
        super().__init__()
        c_in, side = data.channels, data.image_size
        self.stages = nn.Sequential()
        for widening, num_convs in STAGES:
            c_out = options.initial_channels * widening
            stage = nn.Sequential()
            for _ in range(num_convs):
                stage.append(nn.Conv2d(c_in, c_out, kernel_size=3, padding=1))
                if options.batch_norm:
                    stage.append(nn.BatchNorm2d(c_out))
                stage.append(nn.ReLU(inplace=True))
                c_in = c_out
            self.stages.append(stage.append(nn.MaxPool2d(2)))
            side //= 2
        self.head = nn.Linear(c_in * side * side, data.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(x)  # (N, 8 initial_channels, H/32, W/32)
        logits: Tensor = self.head(x.flatten(1))  # (N, num_classes)
        return logits
