"""The network that the series "How to Train Your ResNet" starts from (github.com/davidcpage/cifar10-fast)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainer.datasets import DataSpec
from trainer.models import ModelOptions, _macs, models
from trainer.models._residual import check_image_size
from trainer.models._speed import check_batch_size, label_of
from trainer.schema import check

SHRINKING = 8
"""Side of the image divided by that of the last map."""


@models.register("dawn_net")
@dataclass(frozen=True, kw_only=True, slots=True)
class DawnNetOptions(ModelOptions):
    """A conv, four layers of two pre-activation blocks, max- and mean-pool of the last map, a linear layer.

    A block starts with BN-ReLU. From there go the branch, conv-BN-ReLU-conv, and the shortcut, which is a 1x1
    conv if the shape changes. Every layer but the first halves the map. Nothing follows the last sum.
    """

    own_init: ClassVar[bool] = True

    widths: tuple[int, int, int, int] = (64, 128, 256, 256)
    """Channels of each layer."""
    branches: bool = True
    """False: leave out the branches, so that BN-ReLU and the shortcuts are left."""

    def __post_init__(self) -> None:
        check(min(self.widths) > 0, "widths", f"must be > 0, got {list(self.widths)}")

    @property
    def label(self) -> str:
        widths = "" if self.widths == (64, 128, 256, 256) else f" ({'/'.join(map(str, self.widths))})"
        return label_of(self, f"DAWN net{widths}", {"branches": "shortcuts alone"}, unsaid=("widths",))

    def check(self, data: DataSpec) -> None:
        check_image_size(data, SHRINKING, self.label)

    def check_batches(self, data: DataSpec, size: int, *, sync_bn: bool) -> None:
        check_batch_size(size, 1, -(-data.image_size // SHRINKING))

    @property
    def blocks(self) -> list[tuple[int, int, int]]:
        """Input channels, output channels and stride of each block."""
        blocks, c_in = [], self.widths[0]
        for layer, width in enumerate(self.widths):
            blocks += [(c_in, width, 2 if layer else 1), (width, width, 1)]
            c_in = width
        return blocks

    def macs(self, data: DataSpec) -> int | None:
        side = data.image_size
        macs = _macs.conv(side, data.channels, self.widths[0])
        for c_in, c_out, stride in self.blocks:
            macs += _macs.projection(side, c_in, c_out, stride)
            macs += _macs.two_convs(side, c_in, c_out, stride) if self.branches else 0
            side = _macs.shrunk(side, stride)
        return macs + 2 * self.widths[-1] * data.num_classes
