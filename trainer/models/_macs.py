"""Multiply-accumulates of conv and linear layers, counted without building them. Torch-free.

Plans order and estimate trials with these numbers; `trainer.models.count` counts them with torch. Sides are
in pixels; convs are padded so that the side of the output is ceil(side / stride).
"""

from __future__ import annotations


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
