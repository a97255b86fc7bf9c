"""What each option of a config is: its type, its default and its meaning, read from the code that has it."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import json
import sys
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.registry import Options
from trainer.schema import canonical_value, defaults, field_types, mapped_registry, registry_of

_TYPES = {bool: "true or false", int: "whole number", float: "number", str: "text"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One option, as a reference shows it."""

    name: str
    type: str
    """In words: `whole number or null`, `one of fan_out, fan_in`."""
    required: bool
    default: Any
    """As plain data; None also if the option is required."""
    meaning: str
    """The docstring under the field, on one line."""

    @property
    def default_in_words(self) -> str:
        """Return the default as YAML has it, or that there is none."""
        if self.required:
            return "required"
        value = self.default
        if isinstance(value, dict) and set(value) == {"name"}:
            value = value["name"]
        return value if isinstance(value, str) else json.dumps(value)


def options_of(cls: type) -> list[Option]:
    """Return the options of a dataclass, those of its base classes first."""
    meanings = {name: text for base in reversed(cls.__mro__) for name, text in _docstrings(base).items()}
    return [
        Option(
            name=name,
            type=type_in_words(hint),
            required=name not in defaults(cls),
            default=canonical_value(hint, defaults(cls).get(name)) if name in defaults(cls) else None,
            meaning=meanings.get(name, ""),
        )
        for name, hint in field_types(cls).items()
    ]


def about(cls: type) -> str:
    """Return what a class is: its docstring as written, without the indentation."""
    return inspect.cleandoc(cls.__doc__ or "")


def source_of(cls: type) -> str:
    """Return what a class is after: the first line of its module's docstring, which names the paper."""
    return (sys.modules[cls.__module__].__doc__ or "").strip().partition("\n")[0]


def file_of(cls: type) -> str:
    """Return the file that a class is in, seen from the folder that holds the package `trainer`."""
    path = Path(inspect.getfile(cls)).resolve()
    root = Path(__file__).resolve().parent.parent
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def type_in_words(hint: Any) -> str:
    """Return an annotation of a config in words."""
    if registry := registry_of(hint):
        return f"name of {_a(registry.kind)}, or a mapping with it and its options"
    if registry := mapped_registry(hint):
        return f"mapping from the name of {_a(registry.kind)} to its options"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        words = [type_in_words(argument) for argument in arguments if argument is not type(None)]
        return ", or ".join([*words, "null"] if type(None) in arguments else words)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        words = [type_in_words(argument) for argument in arguments if argument is not Ellipsis]
        if Ellipsis in arguments:
            return f"list of ({words[0]})"
        return f"list of {len(words)}: {words[0] if len(set(words)) == 1 else ', '.join(words)}"
    return _TYPES.get(hint, str(hint))


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


@functools.cache
def _docstrings(cls: type) -> dict[str, str]:
    """Return the docstrings under the fields that a class itself has, each on one line."""
    if not dataclasses.is_dataclass(cls) and not issubclass(cls, Options):
        return {}
    try:
        (tree,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(cls))).body
    except (OSError, TypeError):  # the code is not in a file
        return {}
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                found[name] = " ".join(meaning.split())
    return found
