"""Records of ended trials that are not in the Parquet files yet: one JSON file each."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Collection
from pathlib import Path

from gridrun.errors import StoreError
from gridrun.store.records import Record, is_trial_id
from trainer import files


class PendingRecords:
    """The records in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def read(self, trial_ids: Collection[str] | None = None) -> list[Record]:
        """Return the records, of all trials or of those named. Raises StoreError."""
        if trial_ids is None or len(trial_ids) > 100:
            paths = json_files(self.directory)
        else:
            paths = [self._path(trial_id) for trial_id in trial_ids]
            files.refresh_directory(self.directory)
        records = []
        for path in paths:
            try:
                record = Record.from_json(files.read_text(path))
                if record.trial_id != path.stem or not is_trial_id(path.stem):
                    raise ValueError(f"the record of another trial, {record.trial_id!r}")
                records.append(record)
            except OSError as error:
                if not files.is_gone(error):  # else it has been compacted meanwhile
                    raise StoreError(f"{path}: cannot be read ({error.strerror})") from None
            except ValueError as error:
                raise StoreError(f"{path}: {error}. Move it away to go on.") from None
        return records

    def add(self, record: Record) -> None:
        """Write a record; when this returns it is on disk. Raises OSError."""
        files.write_text(self._path(record.trial_id), record.to_json())

    def drop(self, records: Collection[Record]) -> None:
        """Remove records that are in the Parquet files now."""
        for record in records:
            self._drop_unless_replaced(record)
        done = {f"{record.trial_id}.json" for record in records if record.status == "done"}
        for partial in self.directory.glob(".*.json-*"):  # of workers that were killed, or came second
            if partial.name[1:].partition("-")[0] in done:
                partial.unlink(missing_ok=True)

    def set_aside(self, record: Record) -> Path:
        """Rename a record that no Parquet file can hold, and return its new name. Raises OSError."""
        path = self._path(record.trial_id)
        aside = path.with_suffix(".refused")
        path.replace(aside)
        return aside

    def restore_taken(self) -> None:
        """Restore the `.taken` files that a process killed inside `drop` left behind."""
        for taken in self.directory.glob("*.taken"):
            self._restore(taken)

    def _drop_unless_replaced(self, record: Record) -> None:
        """Remove a record, unless another attempt has written a new one in its place.

        This process may have been paused while others forgot the trial and trained it anew. The file is
        renamed before it is compared: a record that comes in between is not touched.
        """
        path = self._path(record.trial_id)
        taken = path.with_suffix(f".{secrets.token_hex(8)}.taken")
        files.refresh_directory(self.directory)  # so that NFS renames the file that is read then
        with contextlib.suppress(FileNotFoundError):
            path.rename(taken)
            if Record.from_json(files.read_text(taken)) == record:
                taken.unlink()
            else:
                self._restore(taken)

    def _restore(self, taken: Path) -> None:
        path = self.directory / f"{taken.name.partition('.')[0]}.json"
        if files.is_there(path):
            taken.unlink(missing_ok=True)
        else:
            taken.rename(path)

    def _path(self, trial_id: str) -> Path:
        return self.directory / f"{checked_id(trial_id)}.json"


def checked_id(trial_id: str) -> str:
    """Return a trial id; refuse any text that could name a file elsewhere. Raises StoreError."""
    if not is_trial_id(trial_id):
        raise StoreError(f"{trial_id!r} is not a trial id (16 hex digits)")
    return trial_id


def json_files(directory: Path) -> list[Path]:
    """Return the JSON files of a directory; none if there is no directory. Raises StoreError."""
    try:  # `glob` would find nothing in a directory that may not be read
        return sorted(path for path in directory.iterdir() if path.suffix == ".json")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"{directory}: cannot be read ({error.strerror})") from None
