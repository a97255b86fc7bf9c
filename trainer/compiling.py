"""Compile the network of a training step where that pays. The plain network is the reference.

A compiled network adds up in another order. In fp32 the losses of its first steps agree with the plain ones
to `TOLERANCE`, relative; after many steps they differ as those of two runs that round differently do. Tests
always use the plain network. Dropout and the like draw the same numbers in both.
"""

from __future__ import annotations

import copy
import os
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainer import memory
from trainer.config import Precision, TrainConfig
from trainer.precision import autocast, like_weights
from trainer.runtime import Runtime, user_cache_dir

TOLERANCE = 1e-4
BACKEND = "inductor"
_OPTIONS: dict[str, Any] = {"fallback_random": True}
"""Of inductor: draw random numbers as the plain network does."""
_SAVING = 0.1
"""Part of a step's time that compiling is taken to save, before it has been measured."""
_SECONDS_A_LAYER = {"cpu": 4.0, "cuda": 2.0}
"""What compiling takes for each module with weights, before it has been measured."""
_FASTER = 0.97
"""A compiled step that takes more than this part of a plain one is not worth another rounding."""
_MOST_STAGES = 8
"""Compiled networks that a process keeps. Beyond, torch would run later ones plain and not say so."""


@dataclass(slots=True)
class _Shape:
    """What this process knows of trials whose steps are of one shape. Seconds are of one step."""

    layers: int
    stages: int
    """Networks to compile: one at first, and one whenever a group of parameters freezes."""
    plain: float
    compiled: float | None = None
    """None: not compiled yet; infinite: it cannot be."""
    wanted: float = 0.0
    """Seconds of plain training that its trials ask for, all together."""

    def pays(self, device: torch.device) -> bool:
        """Return whether to compile: as soon as trials so far would have saved what it takes.

        So nothing need be known of the trials to come: if the guesses are right, what is lost is at most
        twice what compiling takes.
        """
        if self.compiled is not None:
            return self.compiled < _FASTER * self.plain
        return self.wanted * _SAVING > self.stages * self.layers * _SECONDS_A_LAYER.get(device.type, 4.0)


_shapes: dict[tuple[Any, ...], _Shape] = {}


def network_to_train(
    model: nn.Module, images: torch.Tensor, config: TrainConfig, runtime: Runtime
) -> nn.Module:
    """Return `model`, or a compiled network that has its weights, as `runtime.compile` says.

    The weights do not change, nor do the random numbers that are drawn later. The process keeps what it has
    compiled, so the next network of the same shape is compiled at once.

    Args:
        model: the network, on its device.
        images: a batch as the network will get it, (N, C, H, W).
        config: what is trained, on one device.
        runtime: `auto` also gives `model` if compiling fails.

    Raises:
        RuntimeError: `runtime.compile` is `on`, and the network cannot be compiled.
    """
    if runtime.compile == "off":
        return model
    if config.num_gpus > 1 or config.bn_momentum == "dynamic":
        # The momentum is a number inside the compiled code, which would be compiled anew at each step.
        if runtime.compile == "auto":
            return model
        why = "num_gpus above 1" if config.num_gpus > 1 else "bn_momentum: dynamic"
        raise RuntimeError(f"compile: on does not go with {why}; choose auto or off")
    device = images.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        shape = _shape_of(model, images, config, runtime)
        shape.wanted += shape.plain * config.subdivision * config.num_images / config.global_batch_size
        if runtime.compile == "auto" and not shape.pays(device):
            return model
        if shape.compiled is None or runtime.compile == "on":
            try:
                shape.compiled, *_ = [
                    _seconds(_compile(_frozen(model, names)), images, config.precision)
                    for names in _stages(model, config)
                ]
            except Exception as error:
                if runtime.compile == "on":
                    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                    raise RuntimeError(
                        f"compile: on: {config.model.label} cannot be compiled: {reason}"
                    ) from error
                shape.compiled = float("inf")
    memory.reset_peak(device)
    return _compile(model) if runtime.compile == "on" or shape.pays(device) else model


def _stages(model: nn.Module, config: TrainConfig) -> list[frozenset[str]]:
    """Return the names of the frozen parameters at first, none, and after each time that a group is frozen.

    Freezing changes the backward pass, which torch then compiles anew.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    ends = {group: config.steps_in(group.epochs) for group in config.parameter_groups if group.epochs}
    stages = [frozenset[str]()]
    for end in sorted({end for end in ends.values() if end < config.total_steps}):
        groups = [group.select(model) for group in ends if ends[group] == end]
        stages.append(stages[-1].union(names[parameter] for group in groups for parameter in group))
    return stages


def _frozen(model: nn.Module, names: frozenset[str]) -> nn.Module:
    """Return a copy with some frozen parameters."""
    network = copy.deepcopy(model)
    for name in names:
        network.get_parameter(name).requires_grad_(False)
    return network


def _shape_of(model: nn.Module, images: torch.Tensor, config: TrainConfig, runtime: Runtime) -> _Shape:
    """Return what is known of this shape; at first, measure a plain step."""
    stages = _stages(model, config)
    network = config.model, config.bn_momentum, config.precision, tuple(stages)
    key = (*network, images.shape, images.stride(), images.device, runtime.threads)
    if key not in _shapes:
        if sum(shape.stages for shape in _shapes.values()) + len(stages) > _MOST_STAGES:
            torch._dynamo.reset()
            _shapes.clear()
        layers = sum(any(True for _ in module.parameters(recurse=False)) for module in model.modules())
        plain = _seconds(copy.deepcopy(model), images, config.precision)
        _shapes[key] = _Shape(layers, len(stages), plain)
    return _shapes[key]


def _compile(model: nn.Module) -> nn.Module:
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(user_cache_dir() / "compiled"))  # else in /tmp
    options = dict(_OPTIONS) if BACKEND == "inductor" else None
    if options and next(model.parameters()).device.type == "cpu":
        options["compile_threads"] = torch.get_num_threads()  # on a GPU, torch's own choice
    compiled: Any = torch.compile(model, dynamic=False, backend=BACKEND, options=options)
    network: nn.Module = compiled
    return network


def _seconds(network: nn.Module, images: torch.Tensor, precision: Precision) -> float:
    """Return the shortest of three passes forward and backward, after one that compiles, or warms caches."""
    device, passes = images.device, list[float]()
    network.train()
    for _ in range(4):
        started = time.perf_counter()
        with autocast(precision, device):
            logits = network(like_weights(images, network))
        logits.float().square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        passes.append(time.perf_counter() - started)
    return min(passes[1:])
