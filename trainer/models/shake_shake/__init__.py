"""Shake-shake networks (Gastaldi, arXiv:1705.07485)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trainer.models import ModelOptions, _macs, models
from trainer.models._residual import check_depth, check_image_size, check_positive
from trainer.schema import check

if TYPE_CHECKING:
    from torch import nn

    from trainer.datasets import DataSpec


STEM_CHANNELS = 16
STAGES = ((1, 1), (2, 2), (4, 2))
"""Width, relative to the first stage, and stride."""


@models.register("shake_shake")
@dataclass(frozen=True, kw_only=True, slots=True)
class ShakeShakeOptions(ModelOptions):
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

    def __post_init__(self) -> None:
        check_depth(self.depth, 6, 2)
        check_positive(self, "initial_channels")
        check(
            self.initial_channels % 2 == 0,
            "initial_channels",
            f"must be even (the shortcut has two halves), got {self.initial_channels}",
        )
        check(
            self.shake_forward or self.shake_backward or self.shake_weights == "uniform",
            "shake_weights",
            "is for networks that shake; shake_forward and shake_backward are false",
        )

    @property
    def label(self) -> str:
        shake = "-".join(
            (
                "S" if self.shake_forward else "E",
                "S" if self.shake_backward else "E",
                "I" if self.shake_image else "B",
            )
        )
        suffix = "" if self.shake_weights == "uniform" else ", normalised weights"
        return f"shake-shake-{self.depth} 2x{self.initial_channels}d ({shake}){suffix}"

    @property
    def blocks_per_stage(self) -> int:
        return (self.depth - 2) // 6

    def check(self, data: DataSpec) -> None:
        check_image_size(data, 3, self.label)  # the last shortcut also uses the next pixel

    def macs(self, data: DataSpec) -> int | None:
        side, width = data.image_size, self.initial_channels
        stages = [(width * wider, stride, self.blocks_per_stage) for wider, stride in STAGES]
        stem = _macs.conv(side, data.channels, STEM_CHANNELS)
        return stem + _macs.staged(side, STEM_CHANNELS, stages, _block_macs, data.num_classes)

    def build(self, data: DataSpec) -> nn.Module:
        from trainer.models.shake_shake.network import ShakeShake

        return ShakeShake(self, data)


def _block_macs(side: int, c_in: int, c_out: int, stride: int) -> int:
    """Return the multiply-accumulates of two branches and a shortcut (two half convs)."""
    return 2 * _macs.two_convs(side, c_in, c_out, stride) + _macs.projection(side, c_in, c_out, stride)
