"""The networks of airbench (Jordan, arXiv:2404.00498, github.com/KellerJordan/cifar10-airbench)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from trainer.datasets import DataSpec
from trainer.models import ModelOptions, _macs, models
from trainer.models._residual import check_image_size, check_positive
from trainer.models._speed import check_batch_size, check_whitening, label_of
from trainer.schema import check

PATCH = 2
"""Side of the whitening filters, pixels."""
SHRINKING = 8
"""Side of the first map divided by that of the last."""


@models.register("airbench")
@dataclass(frozen=True, kw_only=True, slots=True)
class AirbenchOptions(ModelOptions):
    """A fixed whitening convolution, three groups of convs that start as the identity, and a linear layer.

    The defaults are airbench94's. A group is conv, 2x2 max-pool, BN, activation, and one or two further convs
    with BN and activation. The scales of BN are frozen at 1. The last map is max-pooled as a whole.
    """

    own_init: ClassVar[bool] = True
    frozen_bn_scale: ClassVar[bool] = True

    widths: tuple[int, int, int] = (64, 256, 256)
    """Channels of each group."""
    convs_per_group: int = 2
    """2 or 3."""
    residual: bool = False
    """Add a group's first activation to what its last BN returns."""
    activation: Literal["gelu", "silu"] = "gelu"
    """The groups' activation; after the whitening convolution it is always GELU."""
    dirac: bool = True
    """Start the convs of the groups as the identity, as far as they have channels; the rest is random."""
    whitening: bool = True
    """Take the first convolution's weights from the training images and freeze them. False: train them."""
    whitening_eps: float = 5e-4
    """Added to the eigenvalues of the patches' covariance; see `trainer.models._whitening`."""
    whitening_images: int = 5000
    """Number of training images that the whitening is computed from, the first ones."""
    whitening_bias: Literal["zero", "uniform", "none"] = "zero"
    """How the bias of the first convolution, which is trained, starts: at 0, or uniform as torch draws it.
    none: there is no bias."""
    head_std: float | None = None
    """Standard deviation that the linear layer's weights are scaled to at the start. None: as torch draws."""
    output_scale: float = 1 / 9
    """The logits are multiplied by it."""
    bn_momentum: float = 0.4
    """Weight of the current batch in the running statistics."""
    bn_eps: float = 1e-12
    """Added to the variance in batch normalisation."""

    def __post_init__(self) -> None:
        check(min(self.widths) > 0, "widths", f"must be > 0, got {list(self.widths)}")
        convs = self.convs_per_group
        check(convs in (2, 3), "convs_per_group", f"must be 2 or 3, got {convs}")
        check_positive(self, "whitening_eps", "whitening_images", "output_scale", "bn_eps")
        check_whitening(self)
        check(self.head_std is None or self.head_std > 0, "head_std", f"must be > 0, got {self.head_std}")
        problem = f"must be > 0 and <= 1, got {self.bn_momentum}"
        check(0 < self.bn_momentum <= 1, "bn_momentum", problem)

    @property
    def label(self) -> str:
        residual = ", residual" if self.residual else ""
        convs = f", {self.convs_per_group} convs" if self.convs_per_group != 2 else ""
        name = f"airbench ({'/'.join(map(str, self.widths))}{convs}{residual})"
        said = {
            "activation": "SiLU",
            "dirac": "w/o dirac",
            "whitening": "w/o whitening",
            "whitening_bias": f"whitening bias {self.whitening_bias}",
            "head_std": f"head std {self.head_std:g}" if self.head_std else "",
        }
        return label_of(self, name, said, unsaid=("widths", "convs_per_group", "residual"))

    def last_side(self, data: DataSpec) -> int:
        """Return the side of the last map, pixels."""
        return (data.image_size - 1) // SHRINKING

    def check(self, data: DataSpec) -> None:
        check_image_size(data, 1 + SHRINKING, self.label)

    def check_batches(self, data: DataSpec, size: int, *, sync_bn: bool) -> None:
        check_batch_size(size, 1, self.last_side(data))

    def macs(self, data: DataSpec) -> int | None:
        side = data.image_size - 1
        c_in, macs = 2 * data.channels * PATCH**2, 2 * (side * data.channels * PATCH**2) ** 2
        for width in self.widths:
            macs += _macs.conv(side, c_in, width)
            side //= 2
            macs += (self.convs_per_group - 1) * _macs.conv(side, width, width)
            c_in = width
        return macs + c_in * data.num_classes
