"""Records that were taken out of a store: one JSON file each, kept for readers.

Only `gridrun compare` reads them, to compare two commits; `gridrun merge` does not bring them back,
and `--again` goes by whose they are.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from gridrun.store.records import Record
from trainer import files

MAX_BYTES = 64 << 20
"""Of a file that is read."""


class Forgotten:
    """The records in one directory, and weights that were kept with them.

    A file has the form of a new record, `.work/ended/ID.json`: copied there, it is in the store again.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def add(self, records: Sequence[Record]) -> list[Path]:
        """Write records durably and return their files. Raises OSError."""
        files.make_directory(self.directory)
        paths = [self.path(record) for record in records]
        for record, path in zip(records, paths, strict=True):
            files.write_text(path, record.to_json())
        return paths

    def read(self) -> list[Record]:
        """Return the records, the oldest first; files that are none are left out."""
        found = []
        for path in sorted(self.directory.glob("*.json")):
            with contextlib.suppress(OSError, ValueError):
                if path.stat().st_size <= MAX_BYTES:
                    found.append(Record.from_json(files.read_text(path)))
        return sorted(found, key=lambda record: record.ended_at)

    def ids(self) -> set[str]:
        """Return the ids of the trials that have a file here."""
        return {path.name.partition(".")[0] for path in self.directory.glob("*.json")}

    def has(self, record: Record) -> bool:
        """Return whether a record lies here, by its trial and when that ended."""
        return self.path(record).exists()

    def path(self, record: Record) -> Path:
        """Return where a record is kept: `ID.2026-11-28T09-03-16Z.json`."""
        when = re.sub(r"[^0-9A-Za-z+-]", "-", record.ended_at)[:40]
        return self.directory / f"{record.trial_id}.{when}.json"
