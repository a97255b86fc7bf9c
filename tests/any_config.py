"""Configs drawn from whatever is registered: each valid, as plain nested data."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal

from hypothesis import assume
from hypothesis import strategies as st

from trainer import ConfigError, TrainConfig
from trainer.augmentations import AugmentationOptions, augmentations
from trainer.datasets import DataSpec, datasets, published
from trainer.models import models
from trainer.registry import Registry
from trainer.schema import (
    defaults,
    field_types,
    mapped_registry,
    read,
    read_options,
    registry_of,
    without_none,
)

# of each family, a network that builds and runs in milliseconds where the family has one; a family not
# named here is drawn with its defaults
NARROW: dict[str, dict[str, Any]] = {
    "airbench": {"widths": [8, 12, 12], "whitening_images": 8},
    "dawn_net": {"widths": [8, 8, 12, 12]},
    "densenet": {"depth": 10, "block_type": "bottleneck", "growth_rate": 4, "compression_rate": 0.5},
    "pyramidnet": {"depth": 11, "block_type": "bottleneck", "alpha": 6, "shakedrop": True},
    "pyramidnet_imagenet": {"depth": 18, "alpha": 8},
    "resnet": {"depth": 8},
    "resnet9": {"widths": [4, 8, 8, 12], "whitening": True, "whitening_images": 8, "ghost_groups": 2},
    "resnet_imagenet": {"depth": 18},
    "resnet_preact": {"depth": 8},
    "resnet_preact_imagenet": {"depth": 18},
    "resnext": {"depth": 11, "cardinality": 2, "base_channels": 4, "initial_channels": 8},
    "se_resnet_preact": {"depth": 8, "reduction": 4},
    "shake_shake": {"depth": 8, "initial_channels": 8},
    "torchvision": {"arch": "resnet18"},
    "vgg": {"initial_channels": 8},
    "wrn": {"depth": 10, "widening_factor": 2, "dropout": 0.3},
}
# the augmentations that have no defaults
AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "policy": {"schedule": [[2, "Rotate 0.5 6, Color 0.5 3, Equalize 0.5 0, Cutout 0.5 5"], [3, ""]]},
}
NUMBERS = [0.0, 1e-3, 0.1, 0.3, 0.5, 0.75, 0.9, 1.0, 1.5, 2.0, 4.5, 100.0]
WHOLE = [0, 1, 2, 3, 4, 6, 8, 12, 16, 20, 23, 28, 32, 40]
TRIES = 30


@cache
def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Return values of a field's type, most of which a well-chosen range would refuse."""
    if (inner := without_none(hint)) is not hint:
        return st.none() | values_of(inner)
    if registry := registry_of(hint):
        return options(registry)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*map(values_of, arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[1:] == (Ellipsis,):
        items = values_of(arguments[0])
        return st.just([]) if items.is_empty else st.lists(items, max_size=3).map(sorted)
    if origin is tuple:
        return st.tuples(*map(values_of, arguments)).map(list)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.sampled_from(WHOLE),
        float: st.sampled_from(NUMBERS) | st.floats(1e-4, 10),
    }
    return plain.get(hint, st.nothing())  # text is a name or a digest: never drawn


@st.composite
def options(draw: st.DrawFn, registry: Registry[Any], name: str | None = None) -> dict[str, Any]:
    """Draw a registered thing and its options, valid on their own."""
    name = name or draw(st.sampled_from(registry.names()))
    cls = registry.get(name)
    given = {id(models): NARROW, id(augmentations): AUGMENTATIONS}.get(id(registry), {})
    values = {"name": name, **given.get(name, {})}
    required = {
        field: hint for field, hint in field_types(cls).items() if field not in {*values, *defaults(cls)}
    }
    for _ in range(TRIES):
        filled = values | {field: draw(values_of(hint)) for field, hint in required.items()}
        if is_valid(registry, filled):
            break
    assume(is_valid(registry, filled))
    for field, hint in field_types(cls).items():
        if hint is not str and draw(st.booleans()):
            changed = filled | {field: draw(values_of(hint))}
            filled = changed if is_valid(registry, changed) else filled
    return filled


def augmentation(name: str) -> AugmentationOptions:
    """Return an augmentation with its defaults, or with some example where it has none."""
    return read(augmentations.get(name), AUGMENTATIONS.get(name, {}))


def is_valid(registry: Registry[Any], values: Mapping[str, Any]) -> bool:
    try:
        read_options(registry, values, "")
    except ConfigError:
        return False
    return True


def accepted(values: Mapping[str, Any]) -> bool:
    """Return whether validation lets a config through."""
    try:
        TrainConfig.from_dict(values).check_precision()
    except ConfigError:
        return False
    return True


def any_size(model: Mapping[str, Any], spec: DataSpec) -> bool:
    """Allow every network: nothing is to be built."""
    return True


@st.composite
def configs(
    draw: st.DrawFn,
    data: st.SearchStrategy[Any] | None = None,
    max_batch: int = 1000,
    fits: Callable[[Mapping[str, Any], DataSpec], bool] = any_size,
    fixed: Mapping[str, Any] | None = None,
    batch: int | None = None,
) -> dict[str, Any]:
    """Draw a valid config: a base, and each other option in turn as far as validation lets it through.

    Args:
        draw: hypothesis's.
        data: data sets; None draws from those that need no options.
        max_batch: largest batch size.
        fits: which networks may be built.
        fixed: options that are not to be drawn.
        batch: size of the batch first tried.
    """
    dataset = draw(st.sampled_from(published()) if data is None else data)
    spec = TrainConfig.from_dict(
        {"model": BASE, "epochs": 1, "batch_size": 1, "dataset": dataset}
    ).dataset.spec
    base = {"dataset": dataset, "epochs": draw(st.integers(1, 3)), "batch_size": batch or 2, **(fixed or {})}
    takers = [name for name in models.names() if accepted(base | {"model": narrow(name)})]
    model = draw(options(models, draw(st.sampled_from(takers))))
    usable = accepted(base | {"model": model}) and fits(model, spec)
    values = base | {"model": model if usable else narrow(model["name"])}
    for name, hint in field_types(TrainConfig).items():
        # init_from needs a file of weights
        if name in {"model", "dataset", "epochs", "init_from", *(fixed or {})} or draw(st.booleans()):
            continue
        if mapped_registry(hint):
            values = draw(with_mapped(name, hint, values))
            continue
        drawn = draw(st.integers(1, max_batch)) if name == "batch_size" else draw(values_of(hint))
        changed = values | {name: drawn}
        values = changed if accepted(changed) else values
    return values


@st.composite
def with_mapped(draw: st.DrawFn, field: str, hint: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Add augmentations or parameter groups, each if it goes with those before it."""
    registry = mapped_registry(hint)
    assert registry
    for name in draw(st.permutations(registry.names())):
        if draw(st.booleans()):
            chosen = {key: value for key, value in draw(options(registry, name)).items() if key != "name"}
            changed = values | {field: {**values.get(field, {}), name: chosen}}
            values = changed if accepted(changed) else values
    return values


BASE = {"name": "resnet", "depth": 8}


def narrow(name: str) -> dict[str, Any]:
    return {"name": name, **NARROW.get(name, {})}


def spec_of(name: str) -> DataSpec:
    """Return what a registered data set without options is."""
    return datasets.get(name)().spec
