"""What the residual families' options share: depths, blocks, checks. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from trainer.datasets import DataSpec
from trainer.models import ModelOptions, _macs
from trainer.schema import check

BlockType = Literal["basic", "bottleneck"]
EXPANSION = 4
"""Output channels of a bottleneck block, divided by its inner channels."""
NARROW_FIRST_STAGE = ", narrow first stage"
"""Added to the label of a bottleneck network without `widen_first_stage`."""
CONVS = {"basic": 2, "bottleneck": 3}
IMAGENET_BLOCKS: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
"""Blocks in each stage of the ImageNet-size networks (arXiv:1512.03385, arXiv:1603.05027), by depth: basic
blocks up to 34, bottleneck blocks from 50."""


def check_depth(depth: int, per_block: int, extra: int, blocks: str = "") -> None:
    """Raise ConfigError with the nearest valid depths, unless `depth` is per_block n + extra, n > 0."""
    below = per_block * max((depth - extra) // per_block, 1) + extra
    nearest = f"{below}" if depth < below else f"{below} and {below + per_block}"
    rule = f"{per_block}n + {extra}" + (f" with {blocks} blocks" if blocks else "")
    check(depth == below, "depth", f"must be {rule}, got {depth}; nearest: {nearest}")


def check_imagenet_depth(depth: int) -> None:
    """Raise ConfigError with the nearest valid depth, unless `depth` is in IMAGENET_BLOCKS."""
    nearest = min(IMAGENET_BLOCKS, key=lambda known: abs(known - depth))
    choices = ", ".join(map(str, IMAGENET_BLOCKS))
    check(depth in IMAGENET_BLOCKS, "depth", f"must be one of {choices}, got {depth}; nearest: {nearest}")


def check_positive(options: Any, *names: str) -> None:
    """Raise ConfigError unless each of the named options is > 0."""
    for name in names:
        value = getattr(options, name)
        check(value > 0, name, f"must be > 0, got {value}")


def check_image_size(data: DataSpec, smallest: int, label: str) -> None:
    """Raise ConfigError unless images are at least `smallest` pixels wide."""
    check(
        data.image_size >= smallest,
        "",
        f"{label} takes images of {smallest} px or larger, the data set's have {data.image_size} px",
    )


def preact_suffix(remove_first_relu: bool, add_last_bn: bool, preact_stage: tuple[bool, ...]) -> str:
    """Return the suffix of a label for units that differ from those of arXiv:1603.05027."""
    said = []
    if remove_first_relu:
        said.append("w/o 1st ReLU")
    if add_last_bn:
        said.append("w/ last BN")
    if not all(preact_stage):
        stages = [str(stage) for stage, preact in enumerate(preact_stage, 1) if preact]
        where = f"stage {' and '.join(stages)}" if stages else "no stage"
        said.append(f"preact shortcut in {where}")
    return f" ({', '.join(said)})" if said else ""


def dropout_suffix(dropout: float, published: float) -> str:
    """Return the suffix of a label for dropout, with its rate unless it is the published one."""
    if not dropout:
        return ""
    return " w/ dropout" if dropout == published else f" w/ dropout {dropout:g}"


def block_macs(block_type: BlockType, side: int, c_in: int, c_out: int, stride: int) -> int:
    """Return the multiply-accumulates of a basic or bottleneck block and its shortcut."""
    shortcut = _macs.projection(side, c_in, c_out, stride)
    if block_type == "basic":
        return shortcut + _macs.two_convs(side, c_in, c_out, stride)
    return shortcut + _macs.bottleneck(side, c_in, c_out // EXPANSION, c_out, stride)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResidualOptions(ModelOptions):
    """Depth, block type and width of a residual network: stem, three stages, linear layer."""

    family: ClassVar[str]
    """The family's name in published tables."""

    depth: int
    """Layers: 6n + 2 with basic blocks, 9n + 2 with bottleneck blocks."""
    block_type: BlockType = "basic"
    initial_channels: int = 16
    """Channels of the stem; 64 is "widening factor 4" in tables."""
    widen_first_stage: bool = True
    """For bottleneck networks. True: the first stage has 4x the stem's channels, as in the papers. False:
    it is as narrow as the stem, as in github.com/hysts/pytorch_image_classification."""

    def __post_init__(self) -> None:
        check_depth(self.depth, 3 * CONVS[self.block_type], 2, self.block_type)
        check_positive(self, "initial_channels")
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
        if not self.widen_first_stage:
            label += NARROW_FIRST_STAGE
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

    def macs(self, data: DataSpec) -> int | None:
        side, c_in = data.image_size, self.initial_channels
        stages = zip(self.stage_channels, (1, 2, 2), (self.blocks_per_stage,) * 3, strict=True)
        stem = _macs.conv(side, data.channels, c_in)
        return stem + _macs.staged(side, c_in, stages, self.block_macs, data.num_classes)

    def block_macs(self, side: int, c_in: int, c_out: int, stride: int) -> int:
        """Return the multiply-accumulates of one block."""
        return block_macs(self.block_type, side, c_in, c_out, stride)
