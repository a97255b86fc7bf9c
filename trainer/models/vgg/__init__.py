"""Plain convolutional networks for small images, after VGG (Simonyan & Zisserman, arXiv:1409.1556)."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.datasets import DataSpec
from trainer.models import ModelOptions, _macs, models
from trainer.models._residual import check_image_size, check_positive

STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""Width, relative to the first stage, and number of convs."""


@models.register("vgg")
@dataclass(frozen=True, kw_only=True, slots=True)
class VGGOptions(ModelOptions):
    """The paper's 13 convs in 5 stages, each followed by max-pooling, and one linear layer.

    The paper has three linear layers and no batch normalisation. Tables call this network depth 15.
    """

    initial_channels: int = 64
    """Channels of the first stage; the stages have 1, 2, 4, 8 and 8 times as many."""
    batch_norm: bool = True
    """Batch normalisation after each conv."""

    def __post_init__(self) -> None:
        check_positive(self, "initial_channels")

    @property
    def label(self) -> str:
        norm = "w/ BN" if self.batch_norm else "w/o BN"
        return f"VGG-like (depth 15, {norm}, channel {self.initial_channels})"

    def check(self, data: DataSpec) -> None:
        check_image_size(data, 32, self.label)

    def macs(self, data: DataSpec) -> int | None:
        c_in, side, macs = data.channels, data.image_size, 0
        for widening, num_convs in STAGES:
            for _ in range(num_convs):
                macs += _macs.conv(side, c_in, self.initial_channels * widening)
                c_in = self.initial_channels * widening
            side //= 2
        return macs + c_in * side**2 * data.num_classes
