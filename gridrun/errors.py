"""Errors that a user can fix.

GridrunError            shown as one message, exit 2
├── GridError           a grid file: names file, line, key, problem
├── StoreError          a results directory that cannot be read or written
└── LaunchError         a launch that cannot start here
"""

from __future__ import annotations

from pathlib import Path


class GridrunError(Exception):
    """A problem with the user's input. The message says what to change."""


class GridError(GridrunError):
    """A mistake in a grid file."""

    def __init__(self, path: Path | str, line: int, key: str, problem: str) -> None:
        place = f"{path}:{line}" if line else str(path)
        super().__init__(f"{place}: {key}: {problem}" if key else f"{place}: {problem}")
        self.path = Path(path)
        self.line = line
        self.key = key
        self.problem = problem


class StoreError(GridrunError):
    """A results directory of something else, or one that is damaged, full or not accessible."""


class LaunchError(GridrunError):
    """A launch that cannot start here."""
