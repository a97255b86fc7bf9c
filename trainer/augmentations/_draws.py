"""Random numbers that torch has no function for, drawn on the generator's device."""

from __future__ import annotations

import math

import torch


def integers_below(limits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw an int64 in 0..limit - 1 for each of `limits`, which are whole numbers > 0."""
    return (torch.rand(limits.shape, generator=generator, device=generator.device) * limits).long()


def uniform(limit: float, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw `n` float32 numbers in -limit..limit."""
    return (2 * torch.rand(n, generator=generator, device=generator.device) - 1) * limit


def hashed(places: torch.Tensor, seed: int) -> torch.Tensor:
    """Return a random int64 for each of `places`, int64 numbers >= 0; 0 <= `seed` < 2^63.

    Number i is output i of SplitMix64 (Steele et al., OOPSLA 2014) from the state `seed`. It has no state to
    save and needs no table: any part of a data set, on any device, gets the same numbers.
    """
    numbers = (places + 1) * (0x9E3779B97F4A7C15 - 2**64) + seed  # int64 wraps around as unsigned does
    numbers = _xor_shifted(numbers, 30) * (0xBF58476D1CE4E5B9 - 2**64)
    numbers = _xor_shifted(numbers, 27) * (0x94D049BB133111EB - 2**64)
    return _xor_shifted(numbers, 31)


def _xor_shifted(numbers: torch.Tensor, bits: int) -> torch.Tensor:
    """Return `numbers ^ (numbers >> bits)`, shifted as if int64 had no sign."""
    return numbers.bitwise_xor((numbers >> bits) & (2 ** (64 - bits) - 1))


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
