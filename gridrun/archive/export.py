"""Fill an archive: grids, the files that they are made of, what is stored of their trials, and tables."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gridrun
from gridrun.archive import container
from gridrun.errors import GridrunError, StoreError
from gridrun.looks import seed_counts
from gridrun.store import Store
from gridrun.store.records import Record
from gridrun.tables import render
from gridrun.tables.build import tables_of
from gridrun.text import utc_now
from trainer.files import read_text
from trainer.origins import without_hosts

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.store.notes import Note


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What an archive holds."""

    files: int
    """Of the grids."""
    trials: int
    """That have ended."""
    missing: int
    """Trials of the grids that have not."""
    tables: int
    sha256: str
    """Of the archive itself."""


def export(
    path: Path,
    grids: Sequence[Grid],
    options: Mapping[str, Any],
    store: Store,
    *,
    commit: str | None = None,
    anonymous: bool = False,
) -> Exported:
    """Write an archive.

    Args:
        path: the file to write; one that is there is replaced.
        grids: those to export.
        options: how they were read: arguments of `load_grids`.
        store: where their trials are. It is only read.
        commit: the commit of the code that exports.
        anonymous: leave out the names of users and machines, and tracebacks, which have paths in them.

    Raises:
        GridrunError: a grid is a search or has no trial that has ended, two files have one name, or the
            archive cannot be written or would be too large.
    """
    sources = _sources(grids)
    trial_ids = list(dict.fromkeys(each for grid in grids for row in grid.rows for each in row.trial_ids))
    records = sorted(store.whole_records(trial_ids), key=lambda record: record.trial_id)
    if not records:
        raise StoreError(f"{store.root}: no trial of these grids has ended; there is nothing to export")
    about = [*trial_ids, *(row.config_id for grid in grids for row in grid.rows)]
    notes = store.notes.read(about)
    if anonymous:
        records, notes = [_without_names(each) for each in records], [replace(n, by=None) for n in notes]
    tables = made_of(records, notes, grids)
    contents = {
        **{f"grids/{name}": file.read_bytes() for name, file in sources.items()},
        "records.jsonl": _lines(each.to_json() for each in records),
        "notes.jsonl": _lines(json.dumps(each.as_dict(), ensure_ascii=False) for each in notes),
        "tables.json": render.to_json(tables).encode(),
        "tables.md": markdown_of(tables).encode(),
        "environment.json": (json.dumps(environment(), indent=2) + "\n").encode(),
    }
    made = {
        "made_at": utc_now(),
        "gridrun_version": gridrun.__version__,
        "commit": commit,
        "grids": [next(iter(grid.files)) for grid in grids],
        "options": options,
        "seed_counts": [seed_counts(grid) for grid in grids],
    }
    container.write(path, made, contents)
    return Exported(
        files=len(sources),
        trials=len(records),
        missing=len(trial_ids) - len(records),
        tables=len(tables),
        sha256=container.sha256(path.read_bytes()),
    )


def made_of(records: Sequence[Record], notes: Sequence[Note], grids: Sequence[Grid]) -> list[Any]:
    """Return the tables of grids as these records alone give them. Raises StoreError."""
    with tempfile.TemporaryDirectory(prefix="gridrun-") as directory:
        return tables_of(grids, store_of(Path(directory), records, notes))


def markdown_of(tables: Sequence[Any]) -> str:
    """Return tables as readers of an archive see them."""
    return "\n\n".join(render.to_markdown(each).rstrip() for each in tables) + "\n"


def store_of(root: Path, records: Sequence[Record], notes: Sequence[Note] = ()) -> Store:
    """Return a new store with these records and notes. Raises StoreError."""
    store = Store(root)
    store.create()
    store.insert(records)
    for note in notes:
        store.notes.add(note)
    return store


def environment() -> dict[str, Any]:
    """Return the versions of Python and of the packages that gridrun needs, on this machine."""
    packages = {}
    for name in _requirements():
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": packages,
    }


def _requirements() -> list[str]:
    listed = Path(gridrun.__file__).parent.parent / "requirements.txt"  # in a checkout
    if listed.is_file():
        lines = read_text(listed).splitlines()
    else:
        lines = importlib.metadata.requires("gridrun") or []
    found = (re.match(r"[A-Za-z][\w.-]*", line) for line in lines)
    return sorted({match[0] for match in found if match}, key=str.lower)


def _sources(grids: Sequence[Grid]) -> dict[str, Path]:
    """Return the files of grids by their names in `grids/`. Raises GridrunError."""
    found: dict[str, Path] = {}
    for grid in grids:
        if grid.search:
            raise GridrunError(f"{grid.path}: is a search; gridrun exports grids alone")
        for name, path in grid.files.items():
            if not container.is_safe_name(f"grids/{name}"):
                raise GridrunError(
                    f"{path}: its name {name!r} cannot be in an archive; use letters and digits"
                )
            other = found.setdefault(name, path)
            if other.read_bytes() != path.read_bytes():
                raise GridrunError(f"{other} and {path} would both be {name!r}; export these grids apart")
    return found


def _without_names(record: Record) -> Record:
    nameless = replace(record.provenance, host=None, user=None)
    notes = record.notes and without_hosts(record.notes)
    return replace(record, provenance=nameless, notes=notes, traceback=None)


def _lines(texts: Any) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()
