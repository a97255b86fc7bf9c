"""What the residual families' options share: depths, blocks, checks. Torch-free."""

from __future__ import annotations

import abc
import itertools
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from trainer.datasets import DataSpec
from trainer.models import ModelOptions, _macs
from trainer.schema import check

BlockType = Literal["basic", "bottleneck"]
BottleneckStride = Literal["1x1", "3x3"]
"""The conv of a bottleneck block that has its stride."""
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
    problem = f"{label} takes images of {smallest} px or larger, the data set's have {data.image_size} px"
    check(data.image_size >= smallest, "", problem)


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


def branch_macs(
    block_type: BlockType, side: int, c_in: int, c_out: int, stride: int, stride_in: BottleneckStride = "3x3"
) -> int:
    """Return the multiply-accumulates of the residual branch of a basic or bottleneck block."""
    if block_type == "basic":
        return _macs.two_convs(side, c_in, c_out, stride)
    inner = c_out // EXPANSION
    if stride_in == "3x3":
        return _macs.bottleneck(side, c_in, inner, c_out, stride)
    first = _macs.conv(side, c_in, inner, kernel=1, stride=stride)
    return first + _macs.bottleneck(_macs.shrunk(side, stride), 0, inner, c_out, 1)


class StagedOptions(ModelOptions):
    """A stem, stages of blocks, average pooling and a linear layer."""

    __slots__ = ()
    imagenet_stem: ClassVar[bool] = False
    """Whether the stem is a 7x7 conv and a max-pool, both with stride 2, instead of a 3x3 conv."""

    @property
    def stem_channels(self) -> int:
        return 64 if self.imagenet_stem else 16

    @property
    @abc.abstractmethod
    def widths(self) -> list[list[int]]:
        """Output channels of each block, stage by stage."""

    @property
    def stages(self) -> list[list[tuple[int, int, int]]]:
        """Input channels, output channels and stride of each block, stage by stage."""
        stages: list[list[tuple[int, int, int]]] = []
        c_in = self.stem_channels
        for widths in self.widths:
            first_stride = 2 if stages else 1
            strides = [first_stride] + [1] * (len(widths) - 1)
            stages.append(list(zip([c_in, *widths], widths, strides, strict=False)))
            c_in = widths[-1]
        return stages

    def check(self, data: DataSpec) -> None:
        if self.imagenet_stem:
            check_image_size(data, 64, self.label)

    @abc.abstractmethod
    def block_macs(self, side: int, c_in: int, c_out: int, stride: int) -> int:
        """Return the multiply-accumulates of one block."""

    def macs(self, data: DataSpec) -> int | None:
        side, stages = data.image_size, self.stages
        if self.imagenet_stem:
            macs = _macs.conv(side, data.channels, self.stem_channels, kernel=7, stride=2)
            side = _macs.shrunk(_macs.shrunk(side, 2), 2)
        else:
            macs = _macs.conv(side, data.channels, self.stem_channels)
        for c_in, c_out, stride in itertools.chain.from_iterable(stages):
            macs += self.block_macs(side, c_in, c_out, stride)
            side = _macs.shrunk(side, stride)
        return macs + stages[-1][-1][1] * data.num_classes


class ImageNetResidualOptions(StagedOptions):
    """Four stages, whose numbers of blocks follow from the depth; bottleneck blocks from depth 50 on."""

    __slots__ = ()
    imagenet_stem: ClassVar[bool] = True
    depth: int

    @property
    def block_type(self) -> BlockType:
        return "basic" if self.depth < 50 else "bottleneck"

    @property
    def widths(self) -> list[list[int]]:
        first = self.stem_channels * (EXPANSION if self.block_type == "bottleneck" else 1)
        blocks = zip((1, 2, 4, 8), IMAGENET_BLOCKS[self.depth], strict=True)
        return [[first * widening] * number for widening, number in blocks]


@dataclass(frozen=True, kw_only=True, slots=True)
class ResidualOptions(StagedOptions):
    """Depth, block type and width of a residual network: stem, three stages, linear layer."""

    family: ClassVar[str]
    """The family's name in published tables."""

    depth: int
    """Layers: 6n + 2 with basic blocks, 9n + 2 with bottleneck blocks."""
    block_type: BlockType = "basic"
    """basic: two 3x3 convs. bottleneck: a 1x1, a 3x3 and a 1x1 conv."""
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
            rule = f"must be a multiple of {EXPANSION} without widen_first_stage"
            fits = self.initial_channels % EXPANSION == 0
            check(fits, "initial_channels", f"{rule}, got {self.initial_channels}")

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
    def stem_channels(self) -> int:
        return self.initial_channels

    @property
    def first_width(self) -> int:
        """Output channels of the first stage."""
        widen = self.block_type == "bottleneck" and self.widen_first_stage
        return self.initial_channels * (EXPANSION if widen else 1)

    @property
    def widths(self) -> list[list[int]]:
        second = 2 * self.initial_channels * (EXPANSION if self.block_type == "bottleneck" else 1)
        blocks = (self.depth - 2) // (3 * CONVS[self.block_type])
        return [[width] * blocks for width in (self.first_width, second, 2 * second)]

    def block_macs(self, side: int, c_in: int, c_out: int, stride: int) -> int:
        shortcut = _macs.projection(side, c_in, c_out, stride)
        return shortcut + branch_macs(self.block_type, side, c_in, c_out, stride)
