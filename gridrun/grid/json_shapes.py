"""Parts of a JSON Schema: what the options of the trainer look like, from the annotations that check them."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from gridrun.grid.policy_schedules import OPTION
from gridrun.grid.settings import LET, known_keys, registered
from trainer import TrainConfig
from trainer.reference import Option, about, options_of, source_of
from trainer.registry import Options, Registry
from trainer.schema import field_types, mapped_registry, registry_of, without_none

Shape = dict[str, Any]

FLAG: Shape = {"type": "boolean"}
NUMBER: Shape = {"type": "number"}
LET_KEY = rf"^{LET}\.[A-Za-z_]\w*$"
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


# --- small shapes ------------------------------------------------------------------------------


def ref(definition: str, key: str | None = None) -> Shape:
    """Return a reference to a definition, or to one of its keys."""
    path = f"#/definitions/{definition.replace(' ', '_')}"
    return {"$ref": path if key is None else f"{path}/properties/{key}"}


def mapping(shapes: Mapping[str, Shape], patterns: Mapping[str, Shape] | None = None, **more: Any) -> Shape:
    """Return a mapping with these keys, and with keys that match a pattern; it has no others."""
    shape: Shape = {"type": "object", "properties": dict(shapes), "additionalProperties": False, **more}
    return {**shape, "patternProperties": dict(patterns)} if patterns else shape


def several(items: Shape, **more: Any) -> Shape:
    """Return a list of one item or more."""
    return {"type": "array", "items": items, "minItems": 1, **more}


def one_or_more(items: Shape, **more: Any) -> Shape:
    """Return a value or a list of them."""
    return {"anyOf": [items, several(items, **more)]}


def names(known: Iterable[str]) -> Shape:
    """Return a text that is one of these."""
    return {"enum": list(dict.fromkeys(known))}


def count(least: int) -> Shape:
    """Return a whole number."""
    return {"type": "integer", "minimum": least}


def described(keys: Mapping[str, str], shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shape of each key with its meaning. A key without a shape may hold anything."""
    return {key: {**shapes.get(key, {}), "description": meaning} for key, meaning in keys.items()}


# --- options -----------------------------------------------------------------------------------


def settings_like(shapes: Mapping[str, Shape], more: Mapping[str, Shape] | None = None) -> Shape:
    """Return a mapping of settings, `let` among them, and of other keys."""
    return mapping({**(more or {}), LET: ref("let"), **shapes}, {LET_KEY: NUMBER})


def settings() -> Shape:
    """Return what may be set: options whole, or in part by a dotted key."""
    shapes = options_as_shapes(TrainConfig)
    for field, (registry, is_mapping) in _registries():
        if not is_mapping:
            shapes[f"{field}.name"] = _names_of(registry)
        for name in registry.names():
            prefix = f"{field}.{name}" if is_mapping else field
            if is_mapping:
                shapes[prefix] = ref(f"{registry.kind}.{name}")
            for option, shape in options_as_shapes(registry.get(name)).items():
                key = f"{prefix}.{option}"
                shapes[key] = _either(shapes[key], shape) if key in shapes else shape
    return settings_like(shapes)


def values_of_rows() -> dict[str, Shape]:
    """Return what each option is in a row: of a model, its name, of an augmentation, whether it is on."""
    shapes: dict[str, Shape] = {key: ref("settings", key) for key in known_keys()}
    for field, (registry, is_mapping) in _registries():
        if is_mapping:
            shapes |= {f"{field}.{name}": FLAG for name in registry.names()}
        else:
            shapes[field] = _or_null(_names_of(registry), field_types(TrainConfig)[field])
    return shapes


def options_as_shapes(cls: type, *but_not: str) -> dict[str, Shape]:
    """Return the shape of each option of a dataclass, with its meaning and its default."""
    return {option.name: _shape(cls, option) for option in options_of(cls) if option.name not in but_not}


def kinds() -> dict[str, Shape]:
    """Return a definition for each kind of options, and one for each name of a kind."""
    found: dict[str, Shape] = {}
    for _, (registry, is_mapping) in _registries():
        for name in registry.names():
            cls = registry.get(name)
            own = {} if is_mapping else {"name": names([name])}
            shape = mapping(own | options_as_shapes(cls), description=_about(cls))
            on_or_off = {"type": ["boolean", "null", "object"]} if is_mapping else {}
            found[f"{registry.kind}.{name}"] = shape | on_or_off
        if is_mapping:
            known = {name: ref(f"{registry.kind}.{name}") for name in registry.names()}
            found[_plural(registry)] = mapping(known)
        else:
            found[registry.kind] = _one_of(registry)
    return {key.replace(" ", "_"): shape for key, shape in found.items()}


def _registries() -> Iterable[tuple[str, tuple[Registry[Any], bool]]]:
    """Yield each field that has a registry, with it and whether the field maps names to options."""
    for field in field_types(TrainConfig):
        registry, is_mapping = registered(field)
        if registry is not None:
            yield field, (registry, is_mapping)


def _one_of(registry: Registry[Any]) -> Shape:
    """Return the name of a kind, or a mapping with it and its options.

    The name may stand in another layer of settings. Then an option may be that of any name.
    """
    shapes: dict[str, Shape] = {}
    for name in registry.names():
        for option, shape in options_as_shapes(registry.get(name)).items():
            shapes[option] = _either(shapes[option], shape) if option in shapes else shape
    branches = [
        {"if": {"properties": {"name": {"const": name}}}, "then": ref(f"{registry.kind}.{name}")}
        for name in registry.names()
    ]
    own: Shape = {"type": "object", "properties": {"name": _names_of(registry)}}
    own |= {"if": {"required": ["name"]}, "then": {"allOf": branches}, "else": mapping(shapes)}
    return {"anyOf": [_names_of(registry), own]}


def _shape(cls: type, option: Option) -> Shape:
    shape = _of_type(field_types(cls)[option.name])
    if (getattr(cls, "kind", ""), getattr(cls, "name", ""), option.name) == OPTION:
        shape = {"anyOf": [{"type": "string", "description": "A file with a schedule."}, shape]}
    if option.meaning:
        shape = {**shape, "description": option.meaning}
    if option.default is not None:
        default = option.default
        alone = isinstance(default, dict) and set(default) == {"name"}
        shape = {**shape, "default": default["name"] if alone else default}
    return shape


def _of_type(hint: Any) -> Shape:
    """Return what an annotation of a config allows."""
    if registry := registry_of(hint):
        return ref(registry.kind)
    if registry := mapped_registry(hint):
        return {"anyOf": [ref(_plural(registry)), {"type": "null"}]}
    if (inner := without_none(hint)) is not hint:
        return _or_null(_of_type(inner), hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_of_type(argument) for argument in arguments]}
    if origin is Literal:
        return names(arguments)
    if origin is tuple and Ellipsis in arguments:
        return {"type": "array", "items": _of_type(arguments[0])}
    if origin is tuple:
        items = [_of_type(argument) for argument in arguments]
        return {"type": "array", "items": items, "minItems": len(items), "maxItems": len(items)}
    return {"type": _TYPES[hint]}


def _or_null(shape: Shape, hint: Any) -> Shape:
    return shape if without_none(hint) is hint else {"anyOf": [shape, {"type": "null"}]}


def _plural(registry: Registry[Any]) -> str:
    return f"{registry.kind}s"


def _names_of(registry: Registry[Any]) -> Shape:
    known = registry.names()
    return {**names(known), "enumDescriptions": [_about(registry.get(name)) for name in known]}


def _about(cls: type[Options]) -> str:
    return f"{about(cls).partition(chr(10))[0]} {source_of(cls)}"


def _either(one: Shape, other: Shape) -> Shape:
    """Return the shape of an option that two names have. Its default is left out, as it may differ."""
    bare = [{k: v for k, v in shape.items() if k not in ("description", "default")} for shape in (one, other)]
    first, second = (shape["anyOf"] if set(shape) == {"anyOf"} else [shape] for shape in bare)
    new = [shape for shape in second if shape not in first]
    meaning = {key: one[key] for key in ("description",) if key in one}
    return {**({"anyOf": [*first, *new]} if new else bare[0]), **meaning}
