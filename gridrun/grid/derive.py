"""Options computed from other options: `derive: {schedule.milestones: [0.5 * epochs, 0.75 * epochs]}`."""

from __future__ import annotations

import ast
import functools
import math
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gridrun.grid.node import Node
from gridrun.grid.pick import nearest
from gridrun.grid.settings import Missing, Settings, known_keys, option, set_option
from trainer.registry import did_you_mean

Number = int | float

MAX_LENGTH = 500
"""Characters of an expression."""
MAX_MAGNITUDE = 1e300
"""Limit of every intermediate result, so that `9**9**9` fails at once."""


@dataclass(frozen=True, slots=True)
class Derivation:
    """One option and the expressions that compute it."""

    key: str
    node: Node
    items: tuple[Node, ...]
    """The items of a list, or the node itself."""

    def applies_to(self, settings: Settings) -> bool:
        """Return whether these settings have the option: a cosine schedule has no milestones."""
        return option(settings, self.key) is not Missing.ABSENT

    def apply(self, settings: Settings) -> None:
        """Set the option. Raises GridError: it cannot be computed."""
        values = [_compute(item, settings) for item in self.items]
        set_option(settings, self.key, values if isinstance(self.node.value, list) else values[0])


def read_derivation(key: str, node: Node) -> Derivation:
    """Read an expression, a number or a list of them. Raises GridError: it is none, or no such option."""
    if key not in known_keys():
        raise node.error(f"unknown option.{nearest(key, known_keys())}")
    items = tuple(node.one_or_more())
    for item in items:
        if isinstance(item.value, str):
            try:
                names_in(item.value)
            except ValueError as error:
                raise item.error(str(error)) from None
        elif type(item.value) not in (int, float):
            raise item.must_be("an expression, a number or a list of them")
    return Derivation(key, node, items)


def _compute(node: Node, settings: Settings) -> Number:
    expression: str | Number = node.value
    if not isinstance(expression, str):
        return expression
    names = {name: option(settings, name) for name in names_in(expression)}
    for name, value in names.items():
        if type(value) not in (int, float):
            raise node.error(_not_a_number(name, value, settings))
    try:
        return _evaluate_once(expression, tuple(names.items()), tuple(map(type, names.values())))
    except ValueError as error:
        raise node.error(str(error)) from None


@functools.lru_cache(maxsize=2**12)
def _evaluate_once(expression: str, names: tuple[tuple[str, Any], ...], types: tuple[type, ...]) -> Number:
    """Evaluate an expression. `types` keeps 1 and 1.0 apart in the cache."""
    value = evaluate(expression, dict(names))
    # Round as a person would write it: 0.30000000000000004 would be another trial than 0.3.
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _not_a_number(name: str, value: Any, settings: Settings) -> str:
    if value is Missing.ABSENT:
        numbers = [key for key in known_keys() if type(option(settings, key)) in (int, float)]
        return f"unknown name {name!r}.{nearest(name, numbers)}"
    if value is Missing.UNSET:
        return f"`{name}` is not set"
    if isinstance(value, str):
        try:
            return f"`{name}` is the text {value!r} (write {float(value)!r})"
        except ValueError:
            pass
    return f"`{name}` is not a number: {value!r}"


# --- arithmetic --------------------------------------------------------------------------------

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "round": round,
    "floor": math.floor,
    "ceil": math.ceil,
    "sqrt": math.sqrt,
}


def evaluate(expression: str, names: Mapping[str, Number]) -> Number:
    """Evaluate an expression such as `0.1 * batch_size / 128`.

    Args:
        expression: numbers, names (dotted ones too), + - * / // % **, parentheses, and min, max,
            round, floor, ceil, sqrt.
        names: the value of each name.

    Raises:
        ValueError: it is not such an expression, a name is unknown, or the result is not a finite number.
    """
    try:
        return _walk(_parse(expression), names)
    except ZeroDivisionError:
        raise ValueError(f"{expression!r} divides by zero") from None
    except OverflowError:
        raise ValueError(f"{expression!r} is too large") from None
    except RecursionError:
        raise ValueError(f"{expression!r} is nested too deeply") from None


@functools.lru_cache(maxsize=1024)
def names_in(expression: str) -> frozenset[str]:
    """Return the names an expression uses. Raises ValueError: it is not an expression."""
    try:
        return frozenset(_names(_parse(expression)))
    except RecursionError:
        raise ValueError(f"{expression!r} is nested too deeply") from None


@functools.lru_cache(maxsize=1024)
def _parse(expression: str) -> ast.expr:
    if len(expression) > MAX_LENGTH:
        raise ValueError(f"an expression may have {MAX_LENGTH} characters, this one has {len(expression)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's warnings about its grammar would confuse users
            return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{expression!r} is not arithmetic") from None


def _names(node: ast.AST) -> Iterator[str]:
    if name := _dotted(node):
        yield name
    else:
        for part in node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node):
            yield from _names(part)


def _dotted(node: ast.AST) -> str | None:
    """Return `a.b.c` for a name or a chain of attributes, else None."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value)):
        return f"{owner}.{node.attr}"
    return None


def _walk(node: ast.AST, names: Mapping[str, Number]) -> Number:
    result: Number = _result(node, names)
    if type(result) not in (int, float) or not abs(result) <= MAX_MAGNITUDE:
        raise ValueError(f"{ast.unparse(node)!r} is not a number of moderate size")
    return result


def _result(node: ast.AST, names: Mapping[str, Number]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if name := _dotted(node):
        if name not in names:
            raise ValueError(f"unknown name {name!r}.{did_you_mean(name, names)}")
        return names[name]
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _walk(node.left, names), _walk(node.right, names)
        if isinstance(node.op, ast.Pow):
            left = float(left) if abs(right) > 64 else left  # a float overflows; an integer would grow
        return _BINARY[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](_walk(node.operand, names))
    if isinstance(node, ast.Call):
        return _call(node, names)
    raise ValueError(f"{ast.unparse(node)!r} is not arithmetic")


def _call(node: ast.Call, names: Mapping[str, Number]) -> Any:
    name = _dotted(node.func) or ast.unparse(node.func)
    if name not in _FUNCTIONS:
        raise ValueError(f"unknown function {name!r}.{did_you_mean(name, _FUNCTIONS)}")
    takes_many = name in ("min", "max")
    if node.keywords or (len(node.args) < 2 if takes_many else len(node.args) != 1):
        wanted = "two or more numbers" if takes_many else "one number"
        raise ValueError(f"{name} takes {wanted}: {ast.unparse(node)!r}")
    arguments = [_walk(argument, names) for argument in node.args]
    try:
        return _FUNCTIONS[name](*arguments)
    except ValueError:
        raise ValueError(f"{ast.unparse(node)!r} is not a number") from None
