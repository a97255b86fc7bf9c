"""Multiply-accumulates of conv and linear layers, counted without building them. Torch-free.

Plans order and estimate trials with these numbers; `trainer.models.count` counts them with torch. Sides are
in pixels; convs are padded so that the side of the output is ceil(side / stride).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

BlockMacs = Callable[[int, int, int, int], int]
"""MACs of one block, from the side and channels of its input, the channels of its output, and its stride."""


def shrunk(side: int, stride: int) -> int:
    """Return the side of a conv's output."""
    return -(-side // stride)


def conv(side: int, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> int:
    """Return the MACs of one conv."""
    return shrunk(side, stride) ** 2 * c_out * (c_in // groups) * kernel**2


def two_convs(side: int, c_in: int, c_out: int, stride: int) -> int:
    """Return the MACs of the residual branch of a basic block."""
    return conv(side, c_in, c_out, stride=stride) + conv(shrunk(side, stride), c_out, c_out)


def bottleneck(side: int, c_in: int, c_inner: int, c_out: int, stride: int, groups: int = 1) -> int:
    """Return the MACs of the residual branch of a bottleneck block."""
    return (
        conv(side, c_in, c_inner, kernel=1)
        + conv(side, c_inner, c_inner, stride=stride, groups=groups)
        + conv(shrunk(side, stride), c_inner, c_out, kernel=1)
    )


def projection(side: int, c_in: int, c_out: int, stride: int) -> int:
    """Return the MACs of a shortcut: 0 if the shapes agree, else those of a 1x1 conv."""
    return 0 if c_in == c_out and stride == 1 else conv(side, c_in, c_out, kernel=1, stride=stride)


def staged(
    side: int, c_in: int, stages: Iterable[tuple[int, int, int]], block: BlockMacs, num_classes: int
) -> int:
    """Return the MACs of stages of equal blocks, average pooling and a linear layer.

    Args:
        side: side of the first stage's input.
        c_in: channels of that input.
        stages: output channels, stride of the first block, number of blocks.
        block: returns the MACs of one block.
        num_classes: outputs of the linear layer.
    """
    macs = 0
    for c_out, stride, num_blocks in stages:
        macs += block(side, c_in, c_out, stride)
        side, c_in = shrunk(side, stride), c_out
        macs += (num_blocks - 1) * block(side, c_out, c_out, 1)
    return macs + c_in * num_classes
