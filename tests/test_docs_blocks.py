"""Blocks of code in the documents: YAML is a grid or a part of one, Python is Python."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from gridrun.grid import GRID_KEYS
from gridrun.grid.json_schema import json_schema

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = [
    pytest.param(language, text, id=f"{path.name}-{number}")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
    for number, (language, text) in enumerate(BLOCK.findall(path.read_text()))
    if language in ("yaml", "python")
]
VALIDATOR = Draft7Validator(json_schema())


@pytest.mark.parametrize(("language", "text"), BLOCKS)
def test_a_block_is_valid(language: str, text: str) -> None:
    if language == "python":
        ast.parse(text)
        return
    given = yaml.safe_load(textwrap.dedent(text)) or {}
    grid = given if set(given) <= set(GRID_KEYS) else {"base": given}
    assert [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(grid)] == []
