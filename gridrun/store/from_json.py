"""Read dataclasses from JSON, with every value checked against the annotation of its field."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

T = TypeVar("T")


def read(cls: type[T], values: Mapping[str, Any]) -> T:
    """Make an instance of a dataclass from what `json.loads` returned.

    Fields may be str, int, float, bool, Literal, Mapping, another dataclass, any of these or None, or a tuple
    of any number of one of them.

    Raises:
        ValueError: a value does not fit its field, a field is missing, or there is one too many.
    """
    fields: Any = cls  # mypy does not take type[T] for hashable
    readers, made = _readers(fields), {}
    try:
        for name, value in values.items():
            made[name] = readers[name](value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: {error}") from None
    except KeyError:
        raise ValueError(f"{name}: unknown") from None
    except AttributeError:
        raise ValueError(f"{str(values)[:50]!r} is no mapping") from None
    try:
        return cls(**made)
    except TypeError as error:
        raise ValueError(str(error)) from None


@functools.cache
def _readers(cls: Any) -> dict[str, Callable[[Any], Any]]:
    return {name: _reader(hint) for name, hint in typing.get_type_hints(cls).items()}


def _reader(hint: Any) -> Callable[[Any], Any]:
    """Return a function that takes a JSON value and returns the value of a field with this annotation."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return functools.partial(read, hint)
    if typing.get_origin(hint) is tuple:
        item = _reader(typing.get_args(hint)[0])
        return lambda value: tuple(map(item, _of_kind((list,), value)))
    return functools.partial(_of_kind, _kinds(hint))


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Return the types of the values that an annotation allows, or of a Literal the values themselves."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return args
    if origin in (typing.Union, types.UnionType):
        return tuple(kind for arg in args for kind in _kinds(arg))
    if origin is Mapping:
        return (dict,)
    return (float, int) if hint is float else (hint,)


def _of_kind(kinds: tuple[Any, ...], value: Any) -> Any:
    if type(value) not in kinds and value not in kinds:
        raise ValueError(f"{str(value)[:50]!r} does not belong there")
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise ValueError("too large")
    return value
