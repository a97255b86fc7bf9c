"""Random numbers that torch has no function for, drawn on the generator's device."""

from __future__ import annotations

import math

import torch


def integers_below(limits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw an int64 in 0..limit - 1 for each of `limits`, which are whole numbers > 0."""
    return (torch.rand(limits.shape, generator=generator, device=generator.device) * limits).long()


def symmetric_beta(alpha: float, size: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Draw float64 numbers from Beta(alpha, alpha), for any alpha > 0.

    It uses a closed form without rejection, so it works with any generator on any device:
    1/2 + t / 2 sqrt(1 + t^2) with t = sqrt(u^(-1/alpha) - 1) cos(2 pi v), which is Student's t in
    polar coordinates (Bailey, Math. Comp. 62, 1994; Devroye, Winter Simulation Conference 1996).
    """
    u, v = torch.rand((2, *size), dtype=torch.float64, generator=generator, device=generator.device)
    power = (1 - u) ** (1 / alpha)  # 1 - u is never 0; an underflow of the power does no harm
    cosine = torch.cos(2 * math.pi * v)  # never 0 in floating point
    ratio: torch.Tensor = cosine * ((1 - power) / (power + (1 - power) * cosine**2)).sqrt()
    return (0.5 + 0.5 * ratio).clamp(0, 1)  # rounding may leave the range
