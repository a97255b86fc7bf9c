"""Notes that users make on trials and rows: small files beside the records, never changed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from gridrun.store.from_json import read
from gridrun.store.records import is_trial_id
from gridrun.trial import digest
from trainer import files

MAX_TEXT = 2000
"""Longest note, in characters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """What somebody has to say about a trial, or about a row: all trials of a config."""

    about: str
    """Id of the trial, or of the config."""
    text: str
    at: str
    """UTC, ISO 8601."""
    by: str | None = None
    """Who wrote it."""

    def __post_init__(self) -> None:
        if not is_trial_id(self.about):
            raise ValueError(f"a note is about an id of 16 hex digits, got {self.about!r}")
        if not self.text.strip() or len(self.text) > MAX_TEXT:
            raise ValueError(f"a note has 1 to {MAX_TEXT:,} characters")
        try:
            self.text.encode()
        except UnicodeEncodeError:
            raise ValueError("a note is text in UTF-8") from None

    def as_dict(self) -> dict[str, str | None]:
        """Return it as plain data."""
        return dataclasses.asdict(self)


class Notes:
    """The notes of one store. A file's name is made of what is in it, so that stores merge by copying."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, about: Collection[str] | None = None) -> list[Note]:
        """Return the notes about some ids, or all of them, oldest first. What is no note is left out."""
        files.refresh_directory(self._directory)
        found = []
        with contextlib.suppress(OSError):  # nobody has made a note yet
            for path in self._directory.glob("*.json"):
                if path.is_symlink() or (about is not None and path.name.partition(".")[0] not in about):
                    continue
                with contextlib.suppress(OSError, ValueError, RecursionError):
                    found.append(read(Note, json.loads(files.read_text(path))))
        return sorted(found, key=lambda note: (note.at, note.about, note.text))

    def add(self, note: Note) -> None:
        """Add a note; nothing happens if it is here already. Raises OSError."""
        files.make_directory(self._directory)
        content = dataclasses.asdict(note)
        path = self._directory / f"{note.about}.{digest(content)}.json"
        if not path.exists():
            files.write_text(path, json.dumps(content, ensure_ascii=False) + "\n")

    def clear(self, about: Collection[str]) -> int:
        """Remove the notes about some ids, and return how many there were. Raises OSError."""
        files.check_no_link(self._directory)
        paths = [path for each in about for path in self._directory.glob(f"{each}.*.json")]
        for path in paths:
            path.unlink(missing_ok=True)
        return len(paths)
