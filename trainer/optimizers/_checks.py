"""Checks that the options of several optimisers share. Torch-free."""

from __future__ import annotations

from trainer.schema import check


def check_share(name: str, value: float) -> None:
    """Raise ConfigError unless a running average's `value` is at least 0 and below 1."""
    check(0 <= value < 1, name, f"must be >= 0 and < 1, got {value}")


def check_betas(betas: tuple[float, float]) -> None:
    """Raise ConfigError unless both betas are at least 0 and below 1."""
    check(all(0 <= beta < 1 for beta in betas), "betas", f"must be >= 0 and < 1, got {list(betas)}")


def check_above_0(name: str, value: float) -> None:
    """Raise ConfigError unless `value` is above 0."""
    check(value > 0, name, f"must be > 0, got {value}")
