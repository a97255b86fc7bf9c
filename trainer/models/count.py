"""Count the parameters and multiply-accumulates of a network, also on the meta device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from trainer.datasets import DataSpec
    from trainer.models import ModelOptions


def on_meta(options: ModelOptions, spec: DataSpec) -> nn.Module:
    """Return a network whose weights take no memory: you can count and compare them, not use them."""
    import torch

    with torch.device("meta"):
        return options.build(spec)


def count_params(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_macs(model: nn.Module, data: DataSpec) -> int:
    """Return the multiply-accumulates of the conv and linear layers for one image."""
    import torch
    from torch import nn

    macs = 0

    def add(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal macs
        # Conv: (out, in / groups, k, k), linear: (out, in). Each output is one row's dot product.
        macs += output.numel() * math.prod(layer.get_parameter("weight").shape[1:])

    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    training = model.training
    model.eval()  # one image has no batch statistics
    try:
        shape = (1, data.channels, data.image_size, data.image_size)
        with torch.no_grad():
            model(torch.zeros(shape, device=next(model.parameters()).device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return macs
