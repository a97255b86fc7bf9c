"""Parameter groups: the learning rate and weight decay of each parameter, and clipping of gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
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


def frozen(groups: Iterable[Group], config: TrainConfig, step: int) -> Iterator[Group]:
    """Yield the groups whose epochs are over after `step` steps."""
    for group in groups:
        epochs = group.options.epochs if group.options else None
        if epochs is not None and step >= config.steps_in(epochs):
            yield group


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[Group]:
    """Return the groups of a network's trainable parameters, the config's own groups last.

    With `weight_decay_on`, the other kinds of parameters have no weight decay, and the config's own groups
    have what they set, else none; likewise with `no_weight_decay_on_bn`.
    """
    left = {id(p): p for p in model.parameters() if p.requires_grad}
    named = []
    for options in config.parameter_groups:
        params = [left.pop(id(p)) for p in options.select(model) if id(p) in left]
        decay = config.weight_decay
        if options.weight_decay is not None:
            decay = options.weight_decay
        elif config.decayed is not None:
            decay = 0.0
        named.append(Group(params, config.lr if options.lr is None else options.lr, decay, options))
    others = list(left.values())
    if config.decayed is None:
        return [Group(others, config.lr, config.weight_decay), *named]
    kinds = _kinds(model)
    decayed = [p for p in others if kinds.get(id(p), "other") in config.decayed]
    rest = [p for p in others if kinds.get(id(p), "other") not in config.decayed]
    return [Group(decayed, config.lr, config.weight_decay), Group(rest, config.lr, 0.0), *named]


def _kinds(model: nn.Module) -> dict[int, str]:
    """Return the kind of parameters by their id, as `weight_decay_on` names it; others are left out."""
    found: dict[int, str] = {}
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            found |= {id(p): "bn" for p in layer.parameters()}
        elif isinstance(layer, (nn.Conv2d, nn.Linear)):
            found[id(layer.weight)] = "conv" if isinstance(layer, nn.Conv2d) else "linear"
    return found


def for_optimizer(groups: list[Group], config: TrainConfig) -> list[dict[str, Any]]:
    """Return groups as torch's optimisers take them. With `clip_weight_decay`, `clip_gradients` decays."""
    return [
        {
            "params": group.params,
            "lr": group.lr,
            "weight_decay": 0.0 if config.clip_weight_decay else group.weight_decay,
        }
        for group in groups
    ]


@torch.no_grad()
def clip_gradients(model: nn.Module, groups: list[Group], config: TrainConfig) -> None:
    """Scale the gradients of a network down to the norm `gradient_clip`, if they are longer."""
    assert config.gradient_clip is not None
    if config.clip_weight_decay:
        for group in groups:
            pairs = [(p.grad, p) for p in group.params if p.grad is not None]
            if pairs and group.weight_decay:
                grads, params = map(list, zip(*pairs, strict=True))
                torch._foreach_add_(grads, params, alpha=group.weight_decay)
    nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
