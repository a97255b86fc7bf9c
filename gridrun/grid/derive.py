"""Options computed from others: `derive: {schedule.milestones: [0.5 * epochs, 0.75 * epochs]}`."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from gridrun.grid.arithmetic import Number, evaluate, names_in
from gridrun.grid.node import Node, shown
from gridrun.grid.pick import nearest
from gridrun.grid.settings import Missing, Settings, option, set_option


@dataclass(frozen=True, slots=True)
class Derivation:
    """One option and how it is computed."""

    key: str
    node: Node
    known: Collection[str]
    """Every option there is, to suggest from."""
    items: tuple[Node, ...]
    """Of a list, or the node itself."""

    @property
    def names(self) -> set[str]:
        """What it is computed from."""
        return {name for item in self.items if isinstance(item.value, str) for name in names_in(item.value)}

    def applies_to(self, settings: Settings) -> bool:
        """Tell whether these settings have the option: cosine has no milestones."""
        return option(settings, self.key) is not Missing.ABSENT

    def apply(self, settings: Settings) -> None:
        """Set the option. Raises GridError: it cannot be computed."""
        values = [_value(item, settings, self.known) for item in self.items]
        set_option(settings, self.key, values if isinstance(self.node.value, list) else values[0])


def read_derivation(key: str, node: Node, known: Collection[str]) -> Derivation:
    """Read an expression, a number or a list of them.

    Raises:
        GridError: it is none of these, or there is no such option.
    """
    if key not in known:
        raise node.error(f"unknown option.{nearest(key, known)}")
    items = tuple(node.items()) if isinstance(node.value, list) else (node,)
    for item in items:
        if isinstance(item.value, str):
            try:
                names_in(item.value)
            except ValueError as error:
                raise item.error(str(error)) from None
        elif type(item.value) not in (int, float):
            raise item.error(f"must be an expression, a number or a list of them, got {shown(item.located)}")
    return Derivation(key, node, known, items)


def _value(node: Node, settings: Settings, known: Collection[str]) -> Number:
    expression: Any = node.value
    if not isinstance(expression, str):
        number: Number = expression
        return number
    names = {name: option(settings, name) for name in names_in(expression)}
    for name, value in names.items():
        if type(value) not in (int, float):
            raise node.error(_not_a_number(name, value, settings, known))
    try:
        return _worth(expression, tuple(names.items()), tuple(map(type, names.values())))
    except ValueError as error:
        raise node.error(str(error)) from None


@functools.lru_cache(maxsize=2**12)
def _worth(expression: str, names: tuple[tuple[str, Any], ...], types: tuple[type, ...]) -> Number:
    """Return what an expression is worth; 1 and 1.0 are told apart by `types`."""
    value = evaluate(expression, dict(names))
    # As a person would write it: 0.3, not 0.30000000000000004, which would be another trial.
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _not_a_number(name: str, value: Any, settings: Settings, known: Collection[str]) -> str:
    if value is Missing.ABSENT:
        numbers = [key for key in known if type(option(settings, key)) in (int, float)]
        return f"unknown name {name!r}.{nearest(name, numbers)}"
    if value is Missing.UNSET:
        return f"`{name}` is not set"
    if isinstance(value, str):
        try:
            return f"`{name}` is the text {value!r} (write {float(value)!r})"
        except ValueError:
            pass
    return f"`{name}` is not a number: {value!r}"
