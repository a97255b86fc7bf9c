"""Residual networks for small images (He et al., arXiv:1512.03385, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainer.models import models
from trainer.models._residual import ResidualOptions


@models.register("resnet")
@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetOptions(ResidualOptions):
    """ResNet-20 to 110 with basic blocks, ResNet-164 and deeper with bottleneck blocks.

    Unlike in the paper, a shortcut that changes the shape is a 1x1 conv and BN (the paper's option B), not
    zero padding.
    """

    family: ClassVar[str] = "ResNet"
