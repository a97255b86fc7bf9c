"""Options shared by the CIFAR-size residual families: three stages of equal length. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from trainer.models import ModelOptions
from trainer.schema import check

BlockType = Literal["basic", "bottleneck"]
EXPANSION = 4
"""Output channels of a bottleneck block over its inner ones."""
CONVS = {"basic": 2, "bottleneck": 3}


@dataclass(frozen=True, kw_only=True, slots=True)
class ResidualOptions(ModelOptions):
    """Depth, block and width of a residual network with a stem, three stages and a linear layer."""

    family: ClassVar[str]
    """As published tables spell it."""

    depth: int
    """Layers: 6n + 2 with basic blocks, 9n + 2 with bottleneck blocks."""
    block_type: BlockType = "basic"
    initial_channels: int = 16
    """Of the stem; 64 is what tables call widening factor 4."""
    widen_first_stage: bool = True
    """Of bottleneck networks: the first stage has 4x the stem's channels, as in the papers. False
    leaves it as narrow as the stem, as in github.com/hysts/pytorch_image_classification."""

    def __post_init__(self) -> None:
        per_block = 3 * CONVS[self.block_type]
        below = per_block * max((self.depth - 2) // per_block, 1) + 2
        nearest = f"{below}" if self.depth < below else f"{below} and {below + per_block}"
        check(
            self.depth == below,
            "depth",
            f"must be {per_block}n + 2 with {self.block_type} blocks, got {self.depth}; nearest: {nearest}",
        )
        check(self.initial_channels > 0, "initial_channels", f"must be > 0, got {self.initial_channels}")
        if not self.widen_first_stage:
            check(self.block_type == "bottleneck", "widen_first_stage", "is for bottleneck blocks only")
            check(
                self.initial_channels % EXPANSION == 0,
                "initial_channels",
                f"must be a multiple of {EXPANSION} without widen_first_stage, got {self.initial_channels}",
            )

    @property
    def label(self) -> str:
        label = f"{self.family}-{self.depth}"
        if self.block_type == "bottleneck":
            label += " bottleneck"
        if self.initial_channels != 16:
            label += f", widening factor {self.initial_channels / 16:g}"
        return label

    @property
    def blocks_per_stage(self) -> int:
        return (self.depth - 2) // (3 * CONVS[self.block_type])

    @property
    def stage_channels(self) -> tuple[int, int, int]:
        """Output channels of each stage."""
        expansion = EXPANSION if self.block_type == "bottleneck" else 1
        first, second, third = (self.initial_channels * expansion * factor for factor in (1, 2, 4))
        return (first if self.widen_first_stage else self.initial_channels, second, third)
