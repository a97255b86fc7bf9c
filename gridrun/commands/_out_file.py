"""The type of options that name a file to write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


class OutFile(click.Path):
    """A file to write: a new one, or a regular file with one of `suffixes` that is replaced.

    Anything else is refused: a device such as /dev/null would be replaced as well, and so would a grid file
    that is named by mistake.
    """

    def __init__(self, *suffixes: str) -> None:
        super().__init__(dir_okay=False, path_type=Path)
        self.suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if path.exists() and not path.is_file():
            self.fail(f"{path} is not a regular file", param, ctx)
        if path.exists() and path.suffix.lower() not in self.suffixes:
            kinds = " or ".join(self.suffixes)
            self.fail(f"{path} is there already, and is no {kinds} file; choose another name", param, ctx)
        return path


FIGURE_SUFFIXES = (".png", ".svg", ".pdf")
