"""What the options of the networks for CIFAR-10 speed runs share. Torch-free."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from trainer.schema import check, defaults


def check_whitening(options: Any) -> None:
    """Raise ConfigError if options of the whitening are set without it."""
    for name in ("whitening_eps", "whitening_images"):
        usual = getattr(options, name) == defaults(type(options))[name]
        check(options.whitening or usual, name, "is for whitening: true only")


def check_batch_size(size: int, groups: int, last_side: int) -> None:
    """Raise ConfigError unless batch normalisation can split batches into groups and normalise each.

    Args:
        size: images in a batch.
        groups: number of equal parts that are normalised on their own.
        last_side: side of the smallest map, pixels. One value alone cannot be normalised.
    """
    fewest = groups * (1 if last_side > 1 else 2)
    below = max(size // groups * groups, fewest)
    nearest = f"{below}" if size < below else f"{below} and {below + groups}"
    rule = (
        f"a multiple of the model's {groups} ghost groups"
        if groups > 1
        else "2 or more for images this small"
    )
    check(
        size == below,
        "batch_size",
        f"must be {rule} (divided by subdivision), got {size}; nearest: {nearest}",
    )


def label_of(options: Any, name: str, said: Mapping[str, str], unsaid: Collection[str]) -> str:
    """Return a model's label: its name, then every option that is not at its default.

    Args:
        options: the model's.
        name: the first part.
        said: words for an option, by its name; without, they are its name and value.
        unsaid: options that the name tells.
    """
    usual = defaults(type(options))
    changed = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.name not in unsaid and getattr(options, field.name) != usual[field.name]
    }
    plain = {key: f"{key.replace('_', ' ')} {value:g}" for key, value in changed.items() if key not in said}
    return ", ".join([name, *((plain | dict(said))[key] for key in changed)])
