"""Launches that are running: what each says of itself, for `gridrun status` and for other launches."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from gridrun.store.launch_state import LaunchState
from gridrun.store.pending import json_files
from trainer import files

_SILENT_SECONDS = 15.0
"""A launch that has not written for so long counts as dead."""
_STOP_KEPT_SECONDS = 2 * 24 * 3600.0
"""Stop files of dead launches are removed after so long. A launch never rewrites its own."""


class Launches:
    """The launches of one store, in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def stop_path(self, launch_id: str) -> Path:
        """Return the file whose existence tells the workers of a launch to stop."""
        return self._directory / f"{launch_id}.stop"

    def write(self, launch_id: str, state: LaunchState) -> None:
        """Say what a running launch does. Raises OSError."""
        files.write_text(self._directory / f"{launch_id}.json", state.to_json(), durable=False)

    def end(self, launch_id: str) -> None:
        """Remove what a launch has written, and what dead launches left."""
        (self._directory / f"{launch_id}.json").unlink(missing_ok=True)
        for path in self._directory.glob("*"):
            # Stop files stay for days, so that setting a clock does not remove one that is in use.
            is_stop = path.suffix in (".stop", ".drain")
            with contextlib.suppress(FileNotFoundError):
                age_seconds = time.time() - path.stat().st_mtime
                if age_seconds > (_STOP_KEPT_SECONDS if is_stop else 10 * _SILENT_SECONDS):
                    path.unlink()

    def running(self) -> list[LaunchState]:
        """Return the last state of each launch that is alive. Raises StoreError."""
        states = []
        for path in json_files(self._directory):
            with contextlib.suppress(OSError, ValueError):  # not a launch's file, or just removed
                # The age is negative if the clock has been set back since a launch died.
                if abs(time.time() - path.stat().st_mtime) < _SILENT_SECONDS:
                    states.append(LaunchState.from_json(files.read_text(path)))
        return states
