"""Pre-activation residual networks with squeeze-and-excitation (Hu et al., arXiv:1709.01507)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainer.models import models
from trainer.models._residual import check_positive
from trainer.models.resnet_preact import ResNetPreactOptions
from trainer.schema import check


@models.register("se_resnet_preact")
@dataclass(frozen=True, kw_only=True, slots=True)
class SEResNetPreactOptions(ResNetPreactOptions):
    """ResNet-preact with a gate on each channel at the end of its residual branches.

    The published results at github.com/hysts/pytorch_image_classification set `remove_first_relu`,
    `add_last_bn` and `preact_stage: [true, false, false]`.
    """

    family: ClassVar[str] = "SE-ResNet-preact"

    reduction: int = 16
    """Channels of a block, divided by those inside the gate."""

    def __post_init__(self) -> None:
        super(SEResNetPreactOptions, self).__post_init__()  # slots=True makes a new class, unknown to super()
        check_positive(self, "reduction")
        problem = f"must divide the first stage's {self.first_width} channels, got {self.reduction}"
        check(self.first_width % self.reduction == 0, "reduction", problem)

    @property
    def label(self) -> str:
        label = super(SEResNetPreactOptions, self).label  # slots=True makes a new class, unknown to super()
        return label if self.reduction == 16 else f"{label}, reduction {self.reduction}"

    def block_macs(self, side: int, c_in: int, c_out: int, stride: int) -> int:
        block = super(SEResNetPreactOptions, self).block_macs(side, c_in, c_out, stride)
        return block + 2 * c_out * (c_out // self.reduction)
