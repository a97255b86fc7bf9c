"""Settings given on the command line: `--set model.depth=56`, `--scale epochs=0.05,train=4000`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gridrun.errors import GridError
from gridrun.grid.located_yaml import parse_yaml

_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
"""1e-3: text to YAML 1.1, but on a command line nothing but a number."""


def parse_scale(text: str) -> dict[str, Any]:
    """Return the values of a text such as `epochs=0.05,train=4000`. Raises GridError."""
    return parse_overrides(text.split(","), "--scale", "epochs=0.05")


def parse_overrides(
    settings: Sequence[str], given_by: str = "--set", example: str = "model.depth=56"
) -> dict[str, Any]:
    """Return the values of `KEY=VALUE` texts, VALUE as a grid file would have it.

    Raises:
        GridError: a text is not of that form, or sets a key again.
    """
    values: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key or not value.strip():
            raise GridError(given_by, 0, "", f"must be KEY=VALUE, such as {example}, got {text!r}")
        if key in values:
            raise GridError(given_by, 0, key, "is set twice")
        number = _EXPONENT.fullmatch(value.strip())
        values[key] = float(value) if number else parse_yaml(value, given_by).plain()
    return values
