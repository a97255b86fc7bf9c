"""ResNet-9 for CIFAR-10, as it won DAWNBench (Page, github.com/davidcpage/cifar10-fast)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from trainer.datasets import DataSpec
from trainer.models import ModelOptions, _macs, models
from trainer.models._residual import check_image_size, check_positive
from trainer.models._speed import check_batch_size, check_whitening, label_of
from trainer.schema import check, defaults

PATCH = 3
"""Side of the whitening filters, pixels."""
SHRINKING = 8
"""Side of the image divided by that of the last map."""

LayerEnd = Literal["residual", "conv", "none"]


@models.register("resnet9")
@dataclass(frozen=True, kw_only=True, slots=True)
class ResNet9Options(ModelOptions):
    """A conv block, three layers of a conv block with 2x2 max-pool, and a linear layer.

    The first and the last layer end in a residual block of two conv blocks. A conv block is conv, BN,
    activation. The last map is max-pooled as a whole. The defaults are those of the first submission; the
    other options are the steps that led to it (post 4 of the author's series) and the later ones.
    """

    own_init: ClassVar[bool] = True

    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    """Channels of the first block and of each layer."""
    activation: Literal["relu", "celu"] = "relu"
    """The activation after each BN."""
    celu_alpha: float = 0.3
    """The activation falls to -celu_alpha (arXiv:1704.07483)."""
    layer_ends: tuple[LayerEnd, LayerEnd, LayerEnd] = ("residual", "none", "residual")
    """What each layer ends in: two conv blocks with a shortcut around both, one conv block, or nothing."""
    downsampling: Literal["max_pool", "strided_3x3", "strided_1x1"] = "max_pool"
    """How the first conv block of a layer halves the map: with a max-pool, or with a conv of stride 2."""
    pool: Literal["after_activation", "before_activation", "before_norm"] = "after_activation"
    """Where the layers pool: conv-BN-activation-pool, conv-BN-pool-activation (the same result in less time),
    or conv-pool-BN-activation."""
    ghost_groups: int = 1
    """Groups whose batch statistics are apart (arXiv:1705.08741); image i is in group i mod ghost_groups.
    Evaluation takes the mean of the groups' running statistics."""
    frozen_bn_scale: bool = False
    """Freeze the scales of batch normalisation at 1."""
    whitening: bool = False
    """Put a fixed convolution that whitens 3x3 patches before the first block, whose own conv is then 1x1."""
    whitening_eps: float = 1e-2
    """Added to the eigenvalues of the patches' covariance; see `trainer.models._whitening`."""
    whitening_images: int = 10_000
    """Number of training images that the whitening is computed from, the first ones."""
    global_pool: Literal["max", "max_and_mean"] = "max"
    """What the linear layer gets of the last map: each channel's maximum, or its maximum and its mean."""
    head_bias: bool = False
    """Give the linear layer a bias."""
    output_scale: float = 0.125
    """The logits are multiplied by it."""

    def __post_init__(self) -> None:
        check(min(self.widths) > 0, "widths", f"must be > 0, got {list(self.widths)}")
        positive = ("celu_alpha", "ghost_groups", "whitening_eps", "whitening_images", "output_scale")
        check_positive(self, *positive)
        check_whitening(self)
        uses_alpha = self.activation == "celu" or self.celu_alpha == defaults(ResNet9Options)["celu_alpha"]
        check(uses_alpha, "celu_alpha", "is for activation: celu only")
        pools = self.downsampling == "max_pool" or self.pool == "after_activation"
        check(pools, "pool", "is for downsampling: max_pool only")

    @property
    def label(self) -> str:
        widths = "" if self.widths == (64, 128, 256, 512) else f" ({'/'.join(map(str, self.widths))})"
        said = {
            "activation": f"CELU {self.celu_alpha:g}",
            "layer_ends": f"layers end in {'/'.join(self.layer_ends)}",
            "downsampling": f"{self.downsampling.removeprefix('strided_')} convs of stride 2",
            "pool": f"pool {self.pool.replace('_', ' ').replace('norm', 'BN')}",
            "ghost_groups": f"{self.ghost_groups} ghost groups",
            "frozen_bn_scale": "frozen BN scale",
            "whitening": "whitening",
            "global_pool": "max and mean pool",
            "head_bias": "head bias",
        }
        return label_of(self, f"ResNet-9{widths}", said, unsaid=("widths", "celu_alpha"))

    def last_side(self, data: DataSpec) -> int:
        """Return the side of the last map, pixels."""
        side = data.image_size
        for _ in range(3):
            side = self.halved(side)
        return side

    def halved(self, side: int) -> int:
        """Return the side of a map after the first conv block of a layer, pixels."""
        return side // 2 if self.downsampling == "max_pool" else _macs.shrunk(side, 2)

    def check(self, data: DataSpec) -> None:
        check_image_size(data, SHRINKING, self.label)

    def check_batches(self, data: DataSpec, size: int, *, sync_bn: bool) -> None:
        problem = "cannot be with the model's ghost groups, which keep statistics apart"
        check(self.ghost_groups == 1 or not sync_bn, "sync_bn", problem)
        check_batch_size(size, self.ghost_groups, self.last_side(data))

    def macs(self, data: DataSpec) -> int | None:
        side, channels, (first, *layers) = data.image_size, data.channels, self.widths
        macs = _macs.conv(side, channels, first, kernel=PATCH)
        if self.whitening:
            patch = channels * PATCH**2
            macs = _macs.conv(side, channels, patch, kernel=PATCH) + _macs.conv(side, patch, first, kernel=1)
        c_in = first
        kernel = 1 if self.downsampling == "strided_1x1" else 3
        stride = 1 if self.downsampling == "max_pool" else 2
        for width, end in zip(layers, self.layer_ends, strict=True):
            macs += _macs.conv(side, c_in, width, kernel, stride)
            side = self.halved(side)
            macs += {"residual": 2, "conv": 1, "none": 0}[end] * _macs.conv(side, width, width)
            c_in = width
        return macs + self.head_channels * data.num_classes

    @property
    def head_channels(self) -> int:
        """Inputs of the linear layer."""
        return self.widths[-1] * (1 if self.global_pool == "max" else 2)
