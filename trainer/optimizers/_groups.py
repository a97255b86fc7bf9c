"""Parameter groups: which weights decay."""

from __future__ import annotations

from typing import Any

from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float, conv_only: bool) -> list[dict[str, Any]]:
    """Return the parameter groups for an optimiser, each with `params` and `weight_decay`.

    With `conv_only`, batch normalisation, biases and linear layers do not decay.
    """
    parameters = list(model.parameters())
    if not conv_only:
        return [{"params": parameters, "weight_decay": weight_decay}]
    conv_weights = {id(layer.weight) for layer in model.modules() if isinstance(layer, nn.Conv2d)}
    return [
        {"params": [p for p in parameters if id(p) in conv_weights], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in conv_weights], "weight_decay": 0.0},
    ]
