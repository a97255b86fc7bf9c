"""Ids of the trials that launches have asked for, so that a plan can say what has changed since."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Collection
from pathlib import Path

from gridrun.store.records import is_trial_id
from trainer import files


class RequestedTrials:
    """The ids in one directory, each under the name of the grid that asked for it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, name: str) -> frozenset[str]:
        """Return all ids that were added under a name."""
        found: set[str] = set()
        with contextlib.suppress(OSError), os.scandir(self._directory) as entries:
            for path in [Path(entry) for entry in entries if entry.name.startswith(name)]:
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
                found.update(filter(is_trial_id, lines))
        return frozenset(found)

    def add(self, name: str, trial_ids: Collection[str]) -> None:
        """Add ids under a name: as a new file, for NFS loses lines that two machines append at once."""
        if new := sorted(set(trial_ids) - self.read(name)):
            with contextlib.suppress(OSError):  # a read-only store, or a full disk
                self._directory.mkdir(parents=True, exist_ok=True)
                files.write_text(self._directory / f"{name}.{secrets.token_hex(4)}", "\n".join(new) + "\n")
