"""What can go wrong that a user can mend.

GridrunError            shown as one message, exit 2
├── GridError           a grid file: names file, line, key, problem
├── StoreError          a results directory that cannot be read or written
└── LaunchError         a sweep that cannot start here
"""

from __future__ import annotations

from pathlib import Path


class GridrunError(Exception):
    """A problem with what the user gave us; the message says what to change."""


class GridError(GridrunError):
    """A grid file that does not say what to train."""

    def __init__(self, path: Path | str, line: int, key: str, problem: str) -> None:
        place = f"{path}:{line}" if line else str(path)
        super().__init__(f"{place}: {key}: {problem}" if key else f"{place}: {problem}")
        self.path = Path(path)
        self.line = line
        self.key = key
        self.problem = problem


class StoreError(GridrunError):
    """A results directory that is not ours, damaged, full or closed to us."""


class LaunchError(GridrunError):
    """A sweep that cannot start on this machine."""
