"""The values that torchvision's policies give to magnitudes: wider than those of `policy`, and signed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from trainer.augmentations.policy.operations import Action

OPERATIONS = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color"),
    *("Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
)
"""What RandAugment and TrivialAugment choose from."""


def pairs(
    chosen: Iterable[tuple[str, int]], bins: int, height: int, width: int, *, wide: bool = False
) -> tuple[Action, ...]:
    """Return the identity, then two actions for each operation and magnitude: with + and with -.

    Args:
        chosen: operations, each with a magnitude 0..bins - 1.
        bins: number of magnitudes.
        height: of the images, pixels.
        width: of the images, pixels.
        wide: the ranges of TrivialAugment; otherwise those of AutoAugment and RandAugment.
    """
    import torch

    shear, rotate, enhance, bits = (0.99, 135, 0.99, 6) if wide else (0.3, 30, 0.9, 4)
    across, down = (32.0, 32.0) if wide else (150 / 331 * width, 150 / 331 * height)

    def line(first: float, last: float) -> torch.Tensor:
        return torch.linspace(first, last, bins)

    enhancers = dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), line(0, enhance))
    values = enhancers | {
        "ShearX": line(0, shear),
        "ShearY": line(0, shear),
        "TranslateX": line(0, across).int(),
        "TranslateY": line(0, down).int(),
        "Rotate": line(0, rotate),
        "Posterize": 8 - (torch.arange(bins) / ((bins - 1) / bits)).round().int(),
        "Solarize": line(255, 0),
    }
    actions: list[Action] = [("Identity", 0)]
    for name, magnitude in chosen:
        value = values[name][magnitude].item() if name in values else 0
        if name in enhancers:
            actions += [(name, 1 + value), (name, 1 - value)]
        else:
            actions += [(name, value), (name, value if name in ("Posterize", "Solarize") else -value)]
    return tuple(actions)
