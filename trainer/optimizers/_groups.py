"""Parameter groups: which learning rate and weight decay each parameter has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from trainer.config import TrainConfig
from trainer.parameter_groups import ParameterGroupOptions


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that are trained alike."""

    params: list[nn.Parameter]
    lr: float
    weight_decay: float
    options: ParameterGroupOptions | None = None
    """None: the parameters that no group of the config selects."""

    def for_optimizer(self) -> dict[str, Any]:
        """Return the group as torch's optimisers take it."""
        return {"params": self.params, "lr": self.lr, "weight_decay": self.weight_decay}


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[Group]:
    """Return the groups of a network's trainable parameters, the config's own groups last.

    With `no_weight_decay_on_bn`, batch normalisation, biases and linear layers have no weight decay, unless
    their group sets one.
    """
    left = {id(p): p for p in model.parameters() if p.requires_grad}
    named = []
    for options in config.parameter_groups:
        params = [left.pop(id(p)) for p in options.select(model) if id(p) in left]
        decay = config.weight_decay
        if options.weight_decay is not None:
            decay = options.weight_decay
        elif config.no_weight_decay_on_bn:
            decay = 0.0
        named.append(Group(params, config.lr if options.lr is None else options.lr, decay, options))
    others = list(left.values())
    if not config.no_weight_decay_on_bn:
        return [Group(others, config.lr, config.weight_decay), *named]
    conv_weights = {id(layer.weight) for layer in model.modules() if isinstance(layer, nn.Conv2d)}
    convs = [p for p in others if id(p) in conv_weights]
    rest = [p for p in others if id(p) not in conv_weights]
    return [Group(convs, config.lr, config.weight_decay), Group(rest, config.lr, 0.0), *named]
