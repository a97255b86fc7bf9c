"""Settings given on the command line: `--set model.depth=56`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gridrun.errors import GridError
from gridrun.grid.located_yaml import parse_yaml

_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
"""1e-3: text to YAML 1.1, but on a command line nothing but a number."""


def parse_overrides(settings: Sequence[str]) -> dict[str, Any]:
    """Return the values of `KEY=VALUE` texts, VALUE as a grid file would have it.

    Raises:
        GridError: a text is not of that form, or sets a key again.
    """
    values: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key or not value.strip():
            raise GridError("--set", 0, "", f"must be KEY=VALUE, such as model.depth=56, got {text!r}")
        if key in values:
            raise GridError("--set", 0, key, "is set twice")
        number = _EXPONENT.fullmatch(value.strip())
        values[key] = float(value) if number else parse_yaml(value, "--set").plain()
    return values
