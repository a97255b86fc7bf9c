"""Check an archive: are its records what their ids say, and do they give its tables?

What that shows: nothing was changed or left out by accident, and the tables follow from the records. That
the records were really measured, only training again can show: `compared` judges what that gave.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gridrun import verdicts
from gridrun.archive import container
from gridrun.archive.container import ArchiveError
from gridrun.archive.export import made_of, markdown_of, store_of
from gridrun.errors import GridError
from gridrun.grid import Grid, Row, load_grids
from gridrun.looks import adaptive_rows, settle, with_seed_counts
from gridrun.store.from_json import read as read_fields
from gridrun.store.merge import content_problem
from gridrun.store.notes import Note
from gridrun.store.records import Record
from gridrun.tables import render
from gridrun.tables.judge import size_of
from gridrun.text import format_percent, number_of, printable
from trainer import TrainConfig

if TYPE_CHECKING:
    from gridrun.verdicts import Pool

OPTIONS = ("overrides", "profile", "scale", "seeds", "where")
"""Arguments of `load_grids` that an archive gives."""
CONFIDENCE = 0.999
"""So that of a thousand honest rows one is called different."""
TOLERANCE = 1e-9
"""Relative: another version of numpy or scipy may round a table's numbers differently."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """An archive that was read: each file is as it was exported, each record has the id of its content."""

    path: Path
    about: Mapping[str, Any]
    """Its manifest."""
    grids: Sequence[Grid]
    records: Mapping[str, Record]
    notes: Sequence[Note]
    tables: list[Any]
    """As `tables.json` has them."""
    markdown: str
    """As `tables.md` has them."""
    others: int
    """Records that no row of the grids asks for."""

    @property
    def rows(self) -> list[Row]:
        """Rows of the grids of which a trial is done."""
        found = {row.config_id: row for grid in self.grids for row in grid.rows}
        return [row for row in found.values() if self.done(row)]

    def done(self, row: Row) -> list[Record]:
        """Return the records of those trials of a row that are done."""
        records = (self.records.get(trial_id) for trial_id in row.trial_ids)
        return [record for record in records if record and record.status == "done"]

    @property
    def missing(self) -> int:
        """Number of trials that the grids ask for and of which there is no record."""
        asked = {trial_id for grid in self.grids for row in grid.rows for trial_id in row.trial_ids}
        return len(asked - self.records.keys())


def open_archive(path: Path, directory: Path) -> Archive:
    """Read an archive. Its grid files are unpacked in an empty directory.

    Raises:
        ArchiveError: it is damaged, hostile or not ours, or a record is not that of its id.
    """
    about, contents = container.read(path)
    records = _records(path, contents.get("records.jsonl", b""))
    notes = _notes(path, contents.get("notes.jsonl", b""))
    grids = _grids(path, about, contents, directory)
    if "seed_counts" in about:
        grids = _with_seeds(path, grids, about["seed_counts"])
    else:  # of an older version
        grids = settle(grids, store_of(directory / "records", list(records.values())))
    asked = {trial_id for grid in grids for row in grid.rows for trial_id in row.trial_ids}
    tables = container.json_of(path, "tables.json", contents.get("tables.json", b""))
    if not isinstance(tables, list):
        raise ArchiveError(f"{path}: tables.json: is no list of tables")
    return Archive(
        path=path,
        about=about,
        grids=grids,
        records=records,
        notes=notes,
        tables=tables,
        markdown=contents.get("tables.md", b"").decode(errors="replace"),
        others=len(records.keys() - asked),
    )


def _lines(path: Path, name: str, text: bytes) -> Iterator[tuple[str, str]]:
    """Yield the lines of a file, each with its place. Raises ArchiveError."""
    try:
        lines = text.decode().split("\n")
    except UnicodeDecodeError:
        raise ArchiveError(f"{path}: {name}: is not UTF-8") from None
    for number, line in enumerate(lines, 1):
        if line:
            yield f"{path}: {name}:{number}", line


def _records(path: Path, text: bytes) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for place, line in _lines(path, "records.jsonl", text):
        try:
            record = Record.from_json(line)
        except ValueError as error:
            raise ArchiveError(f"{place}: {printable(str(error))[:200]}") from None
        if problem := content_problem(record):
            raise ArchiveError(f"{place}: trial {printable(record.trial_id)[:40]!r}: {problem}")
        if record.trial_id in found:
            raise ArchiveError(f"{place}: trial {record.trial_id} is there twice")
        found[record.trial_id] = record
    return found


def _notes(path: Path, text: bytes) -> list[Note]:
    found = []
    for place, line in _lines(path, "notes.jsonl", text):
        try:
            found.append(read_fields(Note, container.json_of(path, "notes.jsonl", line.encode())))
        except ValueError as error:
            raise ArchiveError(f"{place}: {printable(str(error))[:200]}") from None
    return found


def _grids(
    path: Path, about: Mapping[str, Any], contents: Mapping[str, bytes], directory: Path
) -> list[Grid]:
    names, options = about.get("grids"), about.get("options")
    if not isinstance(names, list) or not names or not all(f"grids/{name}" in contents for name in names):
        raise ArchiveError(f"{path}: {container.MANIFEST}: `grids` does not name its grid files")
    if not isinstance(options, dict) or options.keys() - set(OPTIONS):
        raise ArchiveError(f"{path}: {container.MANIFEST}: `options` are not as gridrun writes them")
    try:
        for name, data in contents.items():
            if name.startswith("grids/"):
                target = directory / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
        return load_grids([directory / "grids" / name for name in names], **options)
    except GridError as error:
        raise ArchiveError(f"{path}: {str(error).replace(f'{directory}/', '')}") from None
    except (TypeError, ValueError, AttributeError, OSError) as error:  # options of other kinds
        raise ArchiveError(f"{path}: its grids cannot be read ({printable(str(error))[:100]})") from None


def _with_seeds(path: Path, grids: Sequence[Grid], counts: Any) -> list[Grid]:
    """Return grids with as many seeds of their adaptive rows as they had when they were exported.

    What a store had beside these records may have decided that. Raises ArchiveError.
    """
    asked = [adaptive_rows(grid) for grid in grids]
    known = [{config_id: seeds.looks for config_id, seeds in rows.items()} for rows in asked]
    fits = isinstance(counts, list) and len(counts) == len(known) and all(map(_are_looks, counts, known))
    if not fits:
        raise ArchiveError(f"{path}: {container.MANIFEST}: `seed_counts` does not fit its grids")
    return [with_seed_counts(grid, own) for grid, own in zip(grids, counts, strict=True)]


def _are_looks(counts: Any, looks: Mapping[str, Sequence[int]]) -> bool:
    """Return whether each row has the number of seeds of one of its looks."""
    if not isinstance(counts, dict) or counts.keys() != looks.keys():
        return False
    return all(type(count) is int and count in looks[row] for row, count in counts.items())


# --- tables -----------------------------------------------------------------------------------------


def differences(archive: Archive) -> list[str]:
    """Return where the tables of an archive are not those that its records give, one line each.

    Notes below tables are left out: some say what differs from today's code.
    """
    tables = made_of(list(archive.records.values()), archive.notes, archive.grids)
    ours = container.json_of(archive.path, "tables", render.to_json(tables).encode())
    found = list(_unlike(archive.tables, ours))
    if not found:  # else the same once more
        found += _unlike(_lines_of(archive.markdown), _lines_of(markdown_of(tables)), "tables.md")
    return [f"{place}: {theirs} in the file, {own} from its records" for place, theirs, own in found]


def _lines_of(markdown: str) -> list[str]:
    """Return the lines of tables in Markdown but for their notes."""
    return [line for line in markdown.splitlines() if line.strip() and not line.startswith("- ")]


def _unlike(theirs: Any, ours: Any, place: str = "tables") -> Iterator[tuple[str, str, str]]:
    """Yield where two values of JSON differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict) and theirs.keys() == ours.keys():
        for key in ours:
            if key not in ("notes", "published_notes"):
                yield from _unlike(theirs[key], ours[key], f"{place}.{key}")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for number, (their, own) in enumerate(zip(theirs, ours, strict=True)):
            yield from _unlike(their, own, f"{place}[{number}]")
    elif isinstance(theirs, float) and isinstance(ours, float):
        if not math.isclose(theirs, ours, rel_tol=TOLERANCE):
            yield place, str(theirs), str(ours)
    elif theirs != ours or type(theirs) is not type(ours):
        yield place, printable(str(theirs))[:60], printable(str(ours))[:60]


# --- rows that were trained again -------------------------------------------------------------------

Outcome = Literal["equal", "agrees", "open", "differs"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """A row that was trained again, beside what the archive says of it."""

    outcome: Outcome
    """equal: the same numbers. agrees: as close as the spread of runs allows. open: too few runs to tell."""
    text: str
    """Why, in a line."""


def chosen_rows(archive: Archive, count: int) -> list[Row]:
    """Return some rows at random, so that nobody can know before which ones."""
    rows = archive.rows
    return random.SystemRandom().sample(rows, min(count, len(rows)))


def compared(
    config: TrainConfig, theirs: Sequence[Record], ours: Mapping[str, Record], spread: Pool | None
) -> Compared:
    """Compare a row's done trials with those trained again.

    On the CPU, the same machine and code give the same numbers to the last bit. Else the medians may differ
    as much as runs with other seeds do.

    Args:
        config: that of the row.
        theirs: records of the archive, done.
        ours: records of the trials trained again, by trial id.
        spread: that of the archive's rows on the same test set, if it has enough of them.
    """
    pairs = [(record, ours.get(record.trial_id)) for record in theirs]
    for record, again in pairs:
        if again is None or again.status != "done":
            end = f"{again.status} ({printable(again.error or 'no error')})" if again else "not trained"
            return Compared(outcome="differs", text=f"seed {record.seed}: done in the file, here {end}")
    both = [(record, again) for record, again in pairs if again]
    if all(_curve(record) == _curve(again) for record, again in both):
        return Compared(
            outcome="equal", text=f"the same numbers in every epoch of {number_of(len(both), 'trial')}"
        )
    unequal = [(record, again) for record, again in both if _curve(record) != _curve(again)]
    if alike := [record.seed for record, again in unequal if _same_machine(record, again)]:
        text = f"other numbers, although machine, torch and code are the same (seeds {alike})"
        return Compared(outcome="differs", text=text)
    errors = [
        (r.test_error, a.test_error) for r, a in both if r.test_error is not None and a.test_error is not None
    ]
    their_errors, our_errors = (tuple(column) for column in zip(*errors, strict=True))
    shown = f"median test error {_percent(our_errors)} here, {_percent(their_errors)} in the file"
    runs = verdicts.Runs(our_errors, *size_of(config))
    if spread is None or spread.degrees < verdicts.MIN_DEGREES or not runs.is_between:
        return Compared(
            outcome="open", text=f"{shown}; the file has too few runs to tell whether that is much"
        )
    their_median = statistics.median(their_errors)
    found = verdicts.compare(runs, their_median, verdicts.median_variance(len(errors)), spread)
    width = found.half_width(CONFIDENCE)
    agrees = abs(found.value) <= width
    told = f"{'within' if agrees else 'more than'} the {format_percent(width)} points that runs may differ"
    return Compared(outcome="agrees" if agrees else "differs", text=f"{shown}; {told}")


def _percent(errors: Sequence[float]) -> str:
    return f"{format_percent(statistics.median(errors))} %"


def _curve(record: Record) -> list[tuple[Any, ...]]:
    return [(e.train_loss, e.train_error, e.test_loss, e.test_error) for e in record.epochs]


def _same_machine(record: Record, again: Record) -> bool:
    """Return whether two runs of a trial must give the same numbers: on a CPU, with the same code."""
    names = ("device", "cpu", "threads", "torch_version", "commit", "sources")
    ours, theirs = (
        [bool(each.compiled), *(getattr(each.provenance, name) for name in names)] for each in (record, again)
    )
    clean = record.provenance.dirty is False and again.provenance.dirty is False
    return ours == theirs and record.provenance.device == "cpu" and clean and bool(record.provenance.commit)
