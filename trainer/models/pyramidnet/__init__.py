"""Pyramidal residual networks (Han et al., arXiv:1610.02915), for small images and for ImageNet."""

from __future__ import annotations

import abc
import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

from trainer.models import models
from trainer.models._residual import (
    CONVS,
    EXPANSION,
    IMAGENET_BLOCKS,
    BlockType,
    StagedOptions,
    branch_macs,
    check_depth,
    check_imagenet_depth,
    check_positive,
)
from trainer.schema import check

FINAL_PROBABILITY = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class PyramidOptions(StagedOptions):
    """Options of both sizes. The width grows by the same step at each unit."""

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
        used = self.shakedrop or probability == FINAL_PROBABILITY
        check(used, "shakedrop_final_probability", "is for shakedrop: true only")

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

    @property
    def widths(self) -> list[list[int]]:
        expansion = EXPANSION if self.unit_type == "bottleneck" else 1
        widths = iter(self.unit_channels)
        stages = [itertools.islice(widths, num_units) for num_units in self.units_per_stage]
        return [[width * expansion for width in stage] for stage in stages]

    def block_macs(self, side: int, c_in: int, c_out: int, stride: int) -> int:
        return branch_macs(self.unit_type, side, c_in, c_out, stride)


@models.register("pyramidnet")
@dataclass(frozen=True, kw_only=True, slots=True)
class PyramidNetOptions(PyramidOptions):
    """For small images: three stages of equal length.

    Unlike in the paper's formula, widths are rounded to whole channels, not cut.
    """

    depth: int = 110
    """Layers: 6n + 2 with basic units, 9n + 2 with bottleneck units."""
    alpha: int = 84
    """Channels that the last unit has more than the stem, before expansion."""
    block_type: BlockType = "basic"
    """Type of the units. basic: two 3x3 convs. bottleneck: a 1x1, a 3x3 and a 1x1 conv."""

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

    imagenet_stem: ClassVar[bool] = True

    depth: int = 200
    """Layers: 18, 34, 50, 101, 152 or 200."""
    alpha: int = 300
    """Channels that the last unit has more than the stem, before expansion."""

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
