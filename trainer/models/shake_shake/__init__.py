"""Shake-shake networks (Gastaldi, arXiv:1705.07485)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainer.datasets import DataSpec
from trainer.models import _macs, models
from trainer.models._residual import StagedOptions, check_depth, check_image_size, check_positive
from trainer.schema import check


@models.register("shake_shake")
@dataclass(frozen=True, kw_only=True, slots=True)
class ShakeShakeOptions(StagedOptions):
    """Blocks of two residual branches, mixed with random weights. The default is the paper's S-S-I."""

    depth: int = 26
    """Layers: 6n + 2."""
    initial_channels: int = 32
    """Channels of the first stage; they double from stage to stage. The stem has 16."""
    shake_forward: bool = True
    """Draw the weights of the forward pass; false: mix evenly."""
    shake_backward: bool = True
    """Draw other weights for the gradients; false: split them evenly."""
    shake_image: bool = True
    """Draw for each image; false: once per batch."""
    shake_weights: Literal["uniform", "normalised"] = "uniform"
    """uniform: alpha and 1 - alpha, with alpha uniform in 0..1. normalised: two uniform draws, divided by
    their sum, as in the experiments of Population Based Augmentation (arXiv:1905.05393)."""

    shortcut_relu: bool = True
    """Start a shortcut that changes the shape after the block's first ReLU, as in the author's code. False:
    before it, as in github.com/arcelien/pba."""

    def __post_init__(self) -> None:
        check_depth(self.depth, 6, 2)
        check_positive(self, "initial_channels")
        problem = f"must be even (the shortcut has two halves), got {self.initial_channels}"
        check(self.initial_channels % 2 == 0, "initial_channels", problem)
        shakes = self.shake_forward or self.shake_backward
        problem = "is for networks that shake; shake_forward and shake_backward are false"
        check(shakes or self.shake_weights == "uniform", "shake_weights", problem)

    @property
    def label(self) -> str:
        forward, backward = ("S" if on else "E" for on in (self.shake_forward, self.shake_backward))
        shake = f"{forward}-{backward}-{'I' if self.shake_image else 'B'}"
        suffix = "" if self.shake_weights == "uniform" else ", normalised weights"
        suffix += "" if self.shortcut_relu else ", shortcuts before ReLU"
        return f"shake-shake-{self.depth} 2x{self.initial_channels}d ({shake}){suffix}"

    @property
    def widths(self) -> list[list[int]]:
        return [[self.initial_channels * widening] * ((self.depth - 2) // 6) for widening in (1, 2, 4)]

    def check(self, data: DataSpec) -> None:
        check_image_size(data, 3, self.label)  # the last shortcut also uses the next pixel

    def block_macs(self, side: int, c_in: int, c_out: int, stride: int) -> int:
        shortcut = _macs.projection(side, c_in, c_out, stride)  # two half convs
        return 2 * _macs.two_convs(side, c_in, c_out, stride) + shortcut
