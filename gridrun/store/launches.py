"""What launches say of themselves while they run, and which trials they have asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from gridrun.store.from_json import read
from gridrun.store.pending import json_files
from gridrun.store.records import is_trial_id
from trainer import files

_SILENT_SECONDS = 15.0
"""A launch that has not written for so long counts as dead."""
_STOP_KEPT_SECONDS = 2 * 24 * 3600.0
"""Stop files of dead launches are removed after so long. A launch never rewrites its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A trial that is being trained."""

    trial_id: str
    about: str
    """What tells the trial from the others of its launch, in a few words."""
    epochs: int
    epoch: int = 0
    """The last finished epoch that is known here."""
    part: float = 0.0
    """How much is done of the epoch after it, 0..1."""
    test_error: float | None = None
    images_per_second: float | None = None
    place: str = ""
    """Where it runs, such as `GPU 0`; empty if there is only one place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedTrial:
    """A trial that has ended in this launch."""

    trial_id: str
    about: str
    outcome: str
    test_error: float | None = None
    reason: str = ""
    """Why it failed, if that is not in its record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchState:
    """The state of a launch at one moment."""

    started_at: str
    """UTC, ISO 8601."""
    total: int
    """Number of trials that it is to run."""
    ended: int = 0
    share: float = 0.0
    """Fraction of the work that is done, 0..1."""
    seconds_left: float | None = None
    """Estimate from the speed so far; None before any work is done."""
    alike: str = ""
    """What all its trials share, in a few words."""
    running: tuple[Running, ...] = ()
    """In places that they keep while they run."""
    again: tuple[str, ...] = ()
    """Ids of failed trials that wait for another attempt."""
    last: tuple[EndedTrial, ...] = ()
    """The trials that ended last, latest first."""
    failures: tuple[EndedTrial, ...] = ()
    """The trials that failed or diverged last, latest first."""

    def to_json(self) -> str:
        """Return the state as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> LaunchState:
        """Read what `to_json` wrote. Raises ValueError if the text is no such state."""
        try:
            return read(cls, json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not the state of a launch: {error}") from None


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
        """Remove what a launch has written, and what dead launches left. What cannot be removed stays."""
        with contextlib.suppress(OSError):
            (self._directory / f"{launch_id}.json").unlink()
        for path in self._directory.glob("*"):
            # Stop files stay for days, so that setting a clock does not remove one that is in use.
            is_stop = path.suffix in (".stop", ".drain")
            with contextlib.suppress(OSError):  # just removed, or no file that a launch has written
                age_seconds = time.time() - path.lstat().st_mtime
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


class RequestedTrials:
    """Ids of the trials that launches of each grid have asked for; a plan says what has changed since."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, name: str) -> frozenset[str]:
        """Return all ids that were added under a name."""
        found: set[str] = set()
        with contextlib.suppress(OSError):
            paths = [path for path in self._directory.iterdir() if path.name.startswith(name)]
            for path in paths:
                with contextlib.suppress(OSError, ValueError):  # not ours
                    lines = files.read_text(path).splitlines()
                    found.update(filter(is_trial_id, lines))
        return frozenset(found)

    def add(self, name: str, trial_ids: Collection[str]) -> None:
        """Add ids under a name: as a new file, for NFS loses lines that two machines append at once."""
        if new := sorted(set(trial_ids) - self.read(name)):
            with contextlib.suppress(OSError):  # a read-only store, or a full disk
                self._directory.mkdir(parents=True, exist_ok=True)
                files.write_text(self._directory / f"{name}.{secrets.token_hex(4)}", "\n".join(new) + "\n")
