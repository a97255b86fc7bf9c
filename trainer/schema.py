"""Plain data to frozen dataclasses and back. This module alone knows how a config is written.

A mapping read from YAML becomes a checked dataclass (`read`); a dataclass becomes the shortest
mapping that says the same (`canonical`) or a flat row of columns (`flatten`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeVar

from trainer.registry import Options, Registry, did_you_mean

T = TypeVar("T")

MAX_INT = 2**63
"""Whole numbers stay below it, so that they fit a Parquet column."""
MAX_FLOAT = 3.4028234663852886e38
"""The largest float32, in which torch keeps weights and rates."""


class ConfigError(ValueError):
    """A config that cannot be trained.

    `key` is the dotted name of the option at fault ("model.depth"), `problem` says what is wrong.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}" if key else problem)
        self.key = key
        self.problem = problem


def check(condition: bool, key: str, problem: str, *values: Any) -> None:
    """Raise ConfigError(key, problem) unless the condition holds.

    `values` fill the {} of `problem`. The text is only made if the check fails: a large grid runs many.
    """
    if not condition:
        raise ConfigError(key, problem.format(*values) if values else problem)


def _cached(function: Callable[[type], T]) -> Callable[[type], T]:
    """`functools.cache`, typed so that it takes a class."""
    return functools.cache(function)


@_cached
def field_types(cls: type) -> dict[str, Any]:
    """Return the resolved annotation of every dataclass field of `cls`."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


@_cached
def defaults(cls: type) -> dict[str, Any]:
    """Return the defaults of every field of `cls` that has one."""
    found = {}
    for field in dataclasses.fields(cls):
        if field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
        elif field.default is not dataclasses.MISSING:
            found[field.name] = field.default
    return found


# --- reading ---------------------------------------------------------------------------------


def read(cls: type[T], values: Mapping[str, Any], at: str = "") -> T:
    """Build the dataclass `cls` from a mapping of its options.

    Args:
        cls: a frozen dataclass whose fields are annotated with the types of this module.
        values: option name to plain value, as YAML gives it.
        at: dotted name of `cls` itself, for error messages.

    Raises:
        ConfigError: an option is unknown, missing, of the wrong type, or refused by `cls`.
    """
    known = field_types(cls)
    for name in values:
        if name not in known:
            raise ConfigError(_join(at, str(name)), f"unknown option.{did_you_mean(str(name), known)}")
    given = {name: _value(known[name], value, _join(at, name)) for name, value in values.items()}
    for name in known:
        if name not in given and name not in defaults(cls):
            raise ConfigError(_join(at, name), "is required")
    try:
        return cls(**given)
    except ConfigError as error:
        raise ConfigError(_join(at, error.key), error.problem) from None


def read_options(registry: Registry[Any], value: Any, at: str) -> Options:
    """Build registered options from a name, or from a mapping that holds one under `name`."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        problem = f"must be the name of a {registry.kind}, or a mapping with a `name`, got {value!r}"
        raise ConfigError(at, problem)
    try:
        cls = registry.get(value["name"])
    except ValueError as error:
        raise ConfigError(at if set(value) == {"name"} else f"{at}.name", str(error)) from None
    options: Options = read(cls, {key: item for key, item in value.items() if key != "name"}, at)
    return options


def _join(at: str, name: str) -> str:
    return ".".join(part for part in (at, name) if part)


def _value(hint: Any, value: Any, at: str) -> Any:
    """Check a value against an annotation and convert it to that type."""
    if registry := registry_of(hint):
        return read_options(registry, value, at)
    if registry := mapped_registry(hint):
        return _read_mapped(registry, value, at)
    if (inner := without_none(hint)) is not hint:
        return None if value is None else _value(inner, value, at)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        return _number_or_word(arguments, value, at)
    if origin is Literal:
        return _choice(arguments, value, at)
    if origin is tuple:
        return _tuple(arguments, value, at)
    return _scalar(hint, value, at)


def _choice(choices: tuple[Any, ...], value: Any, at: str) -> Any:
    if value in choices:
        return value
    if isinstance(value, str):
        raise ConfigError(at, f"unknown choice {value!r}.{did_you_mean(value, choices)}")
    raise ConfigError(at, f"must be one of {', '.join(choices)}, got {_shown(value)}")


def _number_or_word(arguments: tuple[Any, ...], value: Any, at: str) -> Any:
    """Read a value of `float | Literal[...]`."""
    number, words = arguments[0], typing.get_args(arguments[1])
    if isinstance(value, str) and not _number_meant(number, value):
        check(
            value in words,
            at,
            "must be a number or a known word, got {!r}.{}",
            value,
            did_you_mean(value, words),
        )
        return value
    return _scalar(number, value, at)


def _tuple(arguments: tuple[Any, ...], value: Any, at: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(at, f"must be a list, got {_shown(value)}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(value) != len(arguments):
        raise ConfigError(at, f"must have {len(arguments)} items, got {len(value)}")
    return tuple(_value(hint, item, at) for hint, item in zip(arguments, value, strict=True))


def _scalar(hint: type, value: Any, at: str) -> Any:
    # bool is a subclass of int, so every comparison is on the exact type.
    if hint is int and type(value) is float and value.is_integer():
        value = int(value)
    given = type(value)
    if given is int and abs(value) >= MAX_INT:
        raise ConfigError(at, "is too large")
    if hint is float and given in (int, float):
        number = float(value) + 0.0  # + 0.0 makes -0.0 the same value as 0.0
        if not math.isfinite(number):
            raise ConfigError(at, f"must be finite, got {value!r}")
        if abs(number) > MAX_FLOAT:
            raise ConfigError(at, f"must be at most {MAX_FLOAT:.4g}, the largest float32, got {value!r}")
        return number
    if given is hint:
        return value
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    meant = _number_meant(hint, value) if hint in (int, float) and given is str else ""
    raise ConfigError(at, f"must be {names.get(hint, hint.__name__)}, got {_shown(value)}{meant}")


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        words = "yes and on" if value else "no and off"
        return f"{str(value).lower()} (YAML reads {words} so; quote it to mean text)"
    return f"the text {value!r}" if isinstance(value, str) else repr(value)


def _number_meant(hint: type, text: str) -> str:
    """Say how to write a number that YAML reads as text, such as 1e-3."""
    try:
        number = float(text)
    except ValueError:
        return ""
    if not abs(number) <= MAX_FLOAT:  # NaN too
        return ""
    written = f"{number:.0f}" if hint is int and number.is_integer() else repr(number)
    if "." not in written:
        written = written.replace("e", ".0e")  # to YAML 1e-05 is text
    return f" (YAML reads it as text; write {written})"


# --- registered options as fields --------------------------------------------------------------


_UNIONS = (types.UnionType, typing.Union)


def without_none(hint: Any) -> Any:
    """Return `T` for the annotation `T | None`, and any other annotation as it is."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in _UNIONS and type(None) in arguments:
        return typing.Union[tuple(kind for kind in arguments if kind is not type(None))]  # noqa: UP007
    return hint


def registry_of(hint: Any) -> Registry[Any] | None:
    """Return the registry behind a field annotated with a kind of options, else None."""
    return getattr(hint, "registry", None) if isinstance(hint, type) and issubclass(hint, Options) else None


@functools.cache
def mapped_registry(hint: Any) -> Registry[Any] | None:
    """Return the registry behind a field annotated `tuple[Kind, ...]`, else None.

    Such a field is written as a mapping from registered name to options, so that a grid can
    vary one of them by its dotted name. The order does not matter.
    """
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return registry_of(arguments[0])
    return None


def _read_mapped(registry: Registry[Any], value: Any, at: str) -> tuple[Options, ...]:
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise ConfigError(at, f"must be a mapping from {registry.kind} to its options, got {_shown(value)}")
    found = []
    for name, given in value.items():
        key = _join(at, str(name))
        if not isinstance(given, (bool, Mapping)) and given is not None:
            raise ConfigError(key, f"must be true, false or a mapping of options, got {_shown(given)}")
        try:
            cls = registry.get(str(name))
        except ValueError as error:
            raise ConfigError(key, str(error)) from None
        if given is not None and given is not False:
            found.append(read(cls, {} if given is True else given, key))
    return tuple(sorted(found, key=lambda options: options.name))


@_cached
def _part_fields(cls: type) -> tuple[str, ...]:
    hints = field_types(cls)
    return tuple(
        name for name, hint in hints.items() if registry_of(without_none(hint)) or mapped_registry(hint)
    )


def parts(config: Any, at: str = "") -> Iterator[tuple[str, Options]]:
    """Yield every part that a config names, defaults included, with its dotted name.

    A name is `model`, or `augmentation.cutout` for one of several; parts of parts follow.
    """
    for name in _part_fields(type(config)):
        value, key = getattr(config, name), _join(at, name)
        several = isinstance(value, tuple)
        for part in value if several else () if value is None else (value,):
            own = _join(key, part.name) if several else key
            yield own, part
            yield from parts(part, own)


# --- writing -----------------------------------------------------------------------------------


def canonical(config: Any) -> dict[str, Any]:
    """Return the shortest mapping that `read` turns back into an equal config.

    Values equal to their default are left out, so that adding an option with a default changes no id.
    """
    cls = type(config)
    return {
        name: canonical_value(hint, getattr(config, name))
        for name, hint in field_types(cls).items()
        if name not in defaults(cls) or getattr(config, name) != defaults(cls)[name]
    }


def canonical_value(hint: Any, value: Any) -> Any:
    """Return the shortest plain data for the value of a field with the annotation `hint`."""
    if isinstance(value, Options):
        return {"name": value.name, **canonical(value)}
    if mapped_registry(hint):
        return {options.name: canonical(options) for options in value}
    return _tuples_as_lists(value)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return every value of a config by dotted name, defaults included.

    A registered name is under the field's own name (`model`: "resnet"), its options beside it
    (`model.depth`). Options written as a mapping are `augmentation.cutout`: True and the like.
    """
    flat: dict[str, Any] = {}
    for name, hint in field_types(type(config)).items():
        value, key = getattr(config, name), prefix + name
        if isinstance(value, Options):
            flat[key] = value.name
            flat.update(flatten(value, key + "."))
        elif mapped_registry(hint):
            for options in value:
                flat[f"{key}.{options.name}"] = True
                flat.update(flatten(options, f"{key}.{options.name}."))
        else:
            flat[key] = _tuples_as_lists(value)
    return flat


def _tuples_as_lists(value: Any) -> Any:
    """Return tuples, and tuples in them, as lists."""
    return [_tuples_as_lists(item) for item in value] if isinstance(value, tuple) else value
