"""Settings: the plain values of one config's options, before and after the config is read.

Settings are the mapping that `TrainConfig.from_dict` reads. A dotted key such as `model.depth` or
`augmentation.cutout.size` names one option in it.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from trainer import TrainConfig
from trainer.registry import Options, Registry
from trainer.schema import canonical_value, defaults, field_types, mapped_registry, registry_of, without_none

Settings = dict[str, Any]

LET = "let"
"""Key of numbers that a grid names for `derive` alone: settings that are no part of a config."""


class Missing(enum.Enum):
    """Why an option has no value."""

    ABSENT = "no such option here"
    UNSET = "required, and not given"


@functools.cache
def registered(field: str) -> tuple[Registry[Any] | None, bool]:
    """Return the registry behind a field, and whether it holds a mapping of several of its names."""
    hint = field_types(TrainConfig)[field]
    if mapped := mapped_registry(hint):
        return mapped, True
    return registry_of(without_none(hint)), False


@functools.cache
def known_keys() -> frozenset[str]:
    """Return every key that some config can have: the columns of `TrainConfig.flat`."""
    known = set()
    for field in field_types(TrainConfig):
        registry, is_mapping = registered(field)
        if not is_mapping:
            known.add(field)
        if registry is None:
            continue
        for name in registry.names():
            prefix = f"{field}.{name}" if is_mapping else field
            known |= {prefix, *(f"{prefix}.{option}" for option in field_types(registry.get(name)))}
    return frozenset(known)


@functools.cache
def settable_keys() -> frozenset[str]:
    """Return every key that a grid may set: `known_keys`, `augmentation`, and `model.name` and its like."""
    fields = field_types(TrainConfig)
    names = {f"{field}.name" for field in fields if registered(field)[0] and not registered(field)[1]}
    return known_keys() | names | fields.keys()


def is_switch(key: str) -> bool:
    """Return whether a key such as `augmentation.cutout` names a part that a config may have, or not."""
    field, *inside = key.split(".")
    return len(inside) == 1 and field in field_types(TrainConfig) and registered(field)[1]


def dotted_settings(config: TrainConfig) -> Settings:
    """Return the fewest settings that make a config, by dotted key: `model` before `model.depth`."""
    settings: Settings = {}
    for field, value in config.canonical().items():
        registry, is_mapping = registered(field)
        if registry is None or value is None:
            settings[field] = value
        elif is_mapping:
            for name, options in value.items():
                settings[f"{field}.{name}"] = True
                settings |= {f"{field}.{name}.{option}": item for option, item in options.items()}
        else:
            settings[field] = value["name"]
            settings |= {f"{field}.{option}": item for option, item in value.items() if option != "name"}
    return settings


def set_option(settings: Settings, key: str, value: Any) -> None:
    """Set one option. A key without a dot replaces the whole field; a dotted key changes one part of it.

    Raises:
        ValueError: the key is dotted, and the field has no options to change.
    """
    field, *rest = key.split(".")
    if not rest:
        settings[field] = value
        return
    if field == LET:
        settings[LET] = {**settings.get(LET, {}), rest[0]: value}
        return
    here = settings.get(field, _default_settings().get(field))
    _, is_mapping = registered(field)
    if is_mapping:
        here = {} if here is None else here
        if isinstance(here, Mapping) and len(rest) > 1:
            inner = here.get(rest[0])
            value = {**(inner if isinstance(inner, Mapping) else {}), rest[1]: value}
    elif isinstance(here, str) or (here is None and rest == ["name"]):
        here = {"name": here}
    if not isinstance(here, Mapping):
        raise ValueError(f"there is no {field} to set it in; set `{field}` first")
    settings[field] = {**here, rest[0]: value}


@functools.cache
def _default_settings() -> Settings:
    """Return the defaults as a grid file would write them."""
    hints = field_types(TrainConfig)
    return {field: canonical_value(hints[field], value) for field, value in defaults(TrainConfig).items()}


def epoch_keys(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of the options that count epochs, such as `schedule.milestones`; not `epochs` itself."""
    for field in field_types(TrainConfig):
        registry, is_mapping = registered(field)
        if registry is None:
            continue
        chosen: Any = settings.get(field) if is_mapping else option(settings, field)
        for name in chosen if isinstance(chosen, Mapping) else [chosen]:
            try:
                cls = registry.get(name)
            except (TypeError, ValueError):  # none or unknown: an error when the config is read
                continue
            prefix = f"{field}.{name}" if is_mapping else field
            yield from (f"{prefix}.{counted}" for counted in cls.in_epochs)


def option(settings: Mapping[str, Any], key: str) -> Any:
    """Return an option's value or its default, as `TrainConfig.flat` would give it; or Missing."""
    field, *rest = key.split(".")
    if field == LET:
        return settings.get(LET, {}).get(".".join(rest), Missing.UNSET)
    if field not in field_types(TrainConfig):
        return Missing.ABSENT
    here = settings.get(field, _default_settings().get(field, Missing.UNSET))
    name: Any
    registry, is_mapping = registered(field)
    if registry is None:
        return Missing.ABSENT if rest else here
    if is_mapping:
        if not rest:
            return Missing.ABSENT
        name, *rest = rest
        here = here.get(name) if isinstance(here, Mapping) else None
        is_on = here not in (None, False)
        if not rest or not is_on:
            return Missing.ABSENT if rest else is_on
    else:
        if here is None or here is Missing.UNSET:
            return Missing.ABSENT if rest else here
        here = {"name": here} if isinstance(here, str) else here
        name = here.get("name", Missing.UNSET) if isinstance(here, Mapping) else Missing.ABSENT
        if not rest:
            return name
    try:
        cls = registry.get(name)
    except (TypeError, ValueError):  # unhashable or unknown: an error when the config is read
        return Missing.ABSENT
    if len(rest) != 1 or rest[0] not in field_types(cls):
        return Missing.ABSENT
    given = here if isinstance(here, Mapping) else {}
    return given.get(rest[0], defaults(cls).get(rest[0], Missing.UNSET))


def config_option(config: TrainConfig, key: str) -> Any:
    """Return `config.flat()[key]` without flattening the whole config; or Missing.

    An augmentation that is off is False.
    """
    here: Any = config
    parts = key.split(".")
    for part in parts:
        if isinstance(here, tuple):
            here = next((options for options in here if options.name == part), False)
        elif dataclasses.is_dataclass(here) and part in field_types(type(here)):
            here = getattr(here, part)
        else:
            return Missing.ABSENT
    if isinstance(here, Options):
        return here.name if len(parts) == 1 else True
    if len(parts) == 1 and registered(key)[1]:
        return Missing.ABSENT
    return list(here) if isinstance(here, tuple) else here


def freeze(value: Any) -> Any:
    """Return a hashable copy, to compare values by: 1 equals 1.0, but true does not equal 1."""
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    if isinstance(value, Mapping):
        return frozenset((key, freeze(item)) for key, item in value.items())
    return value


class ConfigReader:
    """Reads settings into configs. Rows share most option values, so each value is read only once."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, type, Any], Any] = {}
        self._required = field_types(TrainConfig).keys() - defaults(TrainConfig).keys()

    def read(self, settings: Mapping[str, Any]) -> TrainConfig:
        """Return `TrainConfig.from_dict(settings)`; equal options of two configs are one object.

        Raises:
            ConfigError: names the option at fault.
        """
        keys = {field: _value_key(field, value) for field, value in settings.items()}
        if not self._required <= settings.keys() or any(key not in self._read for key in keys.values()):
            config = TrainConfig.from_dict(settings)
            self._read.update({key: getattr(config, field) for field, key in keys.items()})
            return config
        return TrainConfig(**defaults(TrainConfig) | {field: self._read[key] for field, key in keys.items()})


def _value_key(field: str, value: Any) -> tuple[str, type, Any]:
    """Return what tells the values of an option apart; the type, because true equals 1."""
    return field, type(value), repr(value) if isinstance(value, (dict, list)) else value
