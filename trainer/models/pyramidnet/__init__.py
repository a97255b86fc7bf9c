"""Pyramidal residual networks (Han et al., arXiv:1610.02915), for small images and for ImageNet."""

from __future__ import annotations

import abc
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainer.models import ModelOptions, _macs, models
from trainer.models._residual import (
    CONVS,
    EXPANSION,
    IMAGENET_BLOCKS,
    BlockType,
    check_depth,
    check_image_size,
    check_imagenet_depth,
    check_positive,
)
from trainer.schema import check

if TYPE_CHECKING:
    from torch import nn

    from trainer.datasets import DataSpec


FINAL_PROBABILITY = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class PyramidOptions(ModelOptions):
    """Options of both sizes. The width grows by the same step at each unit."""

    stem_channels: ClassVar[int]
    imagenet_stem: ClassVar[bool]

    depth: int
    alpha: int
    """How many more channels the last unit has than the stem, before expansion. Widths are rounded."""
    shakedrop: bool = False
    """ShakeDrop regularisation of each unit (Yamada et al., arXiv:1802.02375), drawn per image."""
    shakedrop_final_probability: float = FINAL_PROBABILITY
    """Probability that the last unit is not changed. It falls linearly over the units, from 1 at the stem."""

    def __post_init__(self) -> None:
        check_positive(self, "alpha")
        probability = self.shakedrop_final_probability
        check(0 <= probability <= 1, "shakedrop_final_probability", f"must be in 0..1, got {probability}")
        if not self.shakedrop:
            check(
                probability == FINAL_PROBABILITY, "shakedrop_final_probability", "is for shakedrop: true only"
            )

    @property
    @abc.abstractmethod
    def unit_type(self) -> BlockType:
        """Type of all units."""

    @property
    @abc.abstractmethod
    def units_per_stage(self) -> tuple[int, ...]:
        """Number of units of each stage."""

    @property
    def label(self) -> str:
        label = f"PyramidNet-{self.depth}"
        if self.unit_type == "bottleneck" and not self.imagenet_stem:  # the depths for ImageNet imply it
            label += " bottleneck"
        label += f" (alpha={self.alpha})"
        if self.imagenet_stem:
            label += ", ImageNet"
        if self.shakedrop:
            label += " w/ ShakeDrop"
        if self.shakedrop_final_probability != FINAL_PROBABILITY:
            label += f" {self.shakedrop_final_probability:g}"
        return label

    @property
    def unit_channels(self) -> list[int]:
        """Width of each unit, before expansion."""
        num_units = sum(self.units_per_stage)
        exact = [self.stem_channels + self.alpha * unit / num_units for unit in range(1, num_units + 1)]
        return [math.floor(channels + 0.5) for channels in exact]

    @property
    def survival_probabilities(self) -> list[float | None]:
        """Probability, for each unit, that ShakeDrop does not change it; None without ShakeDrop."""
        num_units = sum(self.units_per_stage)
        if not self.shakedrop:
            return [None] * num_units
        lost = 1 - self.shakedrop_final_probability
        return [1 - lost * unit / num_units for unit in range(1, num_units + 1)]

    def macs(self, data: DataSpec) -> int | None:
        side, c_in, widths = data.image_size, self.stem_channels, iter(self.unit_channels)
        if self.imagenet_stem:
            macs = _macs.conv(side, data.channels, c_in, kernel=7, stride=2)
            side = _macs.shrunk(_macs.shrunk(side, 2), 2)
        else:
            macs = _macs.conv(side, data.channels, c_in)
        for stage, num_units in enumerate(self.units_per_stage):
            for index, width in enumerate(itertools.islice(widths, num_units)):
                stride = 2 if stage > 0 and index == 0 else 1
                if self.unit_type == "basic":
                    c_out = width
                    macs += _macs.two_convs(side, c_in, c_out, stride)
                else:
                    c_out = width * EXPANSION
                    macs += _macs.bottleneck(side, c_in, width, c_out, stride)
                side, c_in = _macs.shrunk(side, stride), c_out
        return macs + c_in * data.num_classes

    def build(self, data: DataSpec) -> nn.Module:
        from trainer.models.pyramidnet.network import PyramidNet

        return PyramidNet(self, data)


@models.register("pyramidnet")
@dataclass(frozen=True, kw_only=True, slots=True)
class PyramidNetOptions(PyramidOptions):
    """For small images: three stages of equal length.

    Unlike in the paper's formula, widths are rounded to whole channels, not cut.
    """

    stem_channels: ClassVar[int] = 16
    imagenet_stem: ClassVar[bool] = False

    depth: int = 110
    """Layers: 6n + 2 with basic units, 9n + 2 with bottleneck units."""
    alpha: int = 84
    block_type: BlockType = "basic"

    def __post_init__(self) -> None:
        super(PyramidNetOptions, self).__post_init__()  # slots=True makes a new class, unknown to super()
        check_depth(self.depth, 3 * CONVS[self.block_type], 2, self.block_type)

    @property
    def unit_type(self) -> BlockType:
        return self.block_type

    @property
    def units_per_stage(self) -> tuple[int, ...]:
        return ((self.depth - 2) // (3 * CONVS[self.block_type]),) * 3


@models.register("pyramidnet_imagenet")
@dataclass(frozen=True, kw_only=True, slots=True)
class PyramidNetImageNetOptions(PyramidOptions):
    """For ImageNet: a 7x7 stem and four stages; bottleneck units from depth 50 on."""

    stem_channels: ClassVar[int] = 64
    imagenet_stem: ClassVar[bool] = True

    depth: int = 200
    alpha: int = 300

    def __post_init__(self) -> None:
        # slots=True makes a new class, unknown to super()
        super(PyramidNetImageNetOptions, self).__post_init__()
        check_imagenet_depth(self.depth)

    @property
    def unit_type(self) -> BlockType:
        return "basic" if self.depth < 50 else "bottleneck"

    @property
    def units_per_stage(self) -> tuple[int, ...]:
        return IMAGENET_BLOCKS[self.depth]

    def check(self, data: DataSpec) -> None:
        check_image_size(data, 64, self.label)
