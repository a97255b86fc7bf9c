"""Stores from other machines or people become one, by content id.

The other store is untrusted. It is read whole and checked before anything is written: each record as one
that waits for compaction, each id against the config and the seed that it stands for, weights against their
digest. Links are refused, because they could lead to any file of this machine.

Nothing is overwritten, and no result comes back that was forgotten here. Of one trial, a result (done or
diverged) takes the place of a failure, as a retry would; two results with other numbers are a conflict, which
is reported, and ours stays.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridrun.errors import StoreError
from gridrun.store import unwritable
from gridrun.store.from_json import read
from gridrun.store.lineage import LineageRow
from gridrun.store.records import Record, epoch_of, is_trial_id
from gridrun.text import printable
from gridrun.trial import config_id, config_of, digest, trial_id
from trainer import ConfigError

if TYPE_CHECKING:
    from gridrun.store import Store

NUMBERS = (
    "status",
    "test_error",
    "test_loss",
    "top5_error",
    "best_test_error",
    "best_epoch",
    "train_loss",
    "train_error",
    "epochs_trained",
    "num_params",
)
"""What a trial gives. Two runs of it may differ in time, memory and machine, and still be equal."""
DIGEST_SIZE = hashlib.sha256().digest_size
_BATCH = 2000
"""Trials whose epochs are in memory at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conflict:
    """One trial with two results."""

    trial_id: str
    number: str
    """The first number that differs: a column of the store, or `test_error of epoch 3`."""
    ours: Any
    theirs: Any
    our_machine: str
    their_machine: str


@dataclass(kw_only=True, slots=True)
class Merged:
    """What merging one store into another did. Lists have ids of trials."""

    added: list[str] = field(default_factory=list)
    """Trials that were not here."""
    replaced: list[str] = field(default_factory=list)
    """Trials that had failed here."""
    equal: int = 0
    """Trials that both stores have with the same numbers, or that failed in both."""
    behind: int = 0
    """Trials that failed there and have a result here, that a launch has ended here meanwhile, or whose
    result was forgotten here."""
    conflicts: list[Conflict] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    """Trials with kept weights that a launch trains here at this moment, and searches that run here."""
    weights: int = 0
    """Number of kept weights that came with the trials."""
    damaged_weights: list[str] = field(default_factory=list)
    """Trials whose weights were not taken: the file is gone, damaged, a link, or no file."""
    notes: int = 0
    """Number of users' notes that were not here."""
    searches: list[str] = field(default_factory=list)
    """Searches whose lineage is new here, or has more rows now."""
    search_conflicts: list[str] = field(default_factory=list)
    """Searches of which both stores tell another lineage."""

    @property
    def has_conflicts(self) -> bool:
        return bool(self.conflicts or self.search_conflicts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Another store, read and checked."""

    store: Store
    records: Mapping[str, Record]
    """Without their epochs."""
    lineages: Mapping[str, Sequence[LineageRow]]

    def with_epochs(self, trial_ids: Sequence[str]) -> list[Record]:
        """Return some of its records with their epochs. Raises StoreError."""
        epochs = self.store.epochs(trial_ids)
        return [self._checked(self.records[each], epochs.get(each, [])) for each in trial_ids]

    def _checked(self, record: Record, rows: Sequence[Mapping[str, Any]]) -> Record:
        return _as_if_pending(self.store.root, replace(record, epochs=tuple(map(epoch_of, rows))))


def open_source(store: Store) -> Source:
    """Read a store of somebody else, and check all of it.

    Raises:
        StoreError: there is none, or it is damaged, or it says what no store of ours could say.
    """
    _refuse_links(store)
    records = store.records()
    for key, record in records.items():
        if problem := content_problem(record):
            raise StoreError(
                f"{store.root}: trial {printable(str(key))[:40]!r}: {problem}. Nothing is merged."
            )
    source = Source(store=store, records=records, lineages=_checked_lineages(store))
    for batch in _batches(sorted(records)):
        source.with_epochs(batch)
    return source


def content_problem(record: Record) -> str | None:
    """Return why a record cannot be one that gridrun wrote, None if it can be."""
    if not is_trial_id(record.trial_id):
        return "is no trial id (16 hex digits)"
    if record.status not in ("done", "diverged", "failed"):
        return f"has no status {record.status!r}"
    if trial_id(record.config_id, record.seed) != record.trial_id:
        return "its id is not that of its config and seed"
    try:
        config = json.loads(record.config_json)
        own = digest({"config": config, "version": record.provenance.trainer_version})
    except (ValueError, TypeError, RecursionError):
        return "its config cannot be read"
    if record.config_id not in (own, _id_today(record.config_json)):
        return (
            "its config is not the one that its id stands for, "
            "or a part of it has another version than in this version of gridrun"
        )
    if odd := next((name for name in record.config if not _is_option(name)), None):
        return f"{odd!r} is no option"
    return None


def _id_today(config_json: str) -> str | None:
    """Return the id that this version gives a config, with the versions of its parts; None: it is unknown."""
    try:
        return config_id(config_of(config_json))
    except (ConfigError, ValueError, TypeError, RecursionError):
        return None


def _is_option(name: str) -> bool:
    return len(name) < 200 and all(part.isidentifier() and part.isascii() for part in name.split("."))


def merge(target: Store, source: Source) -> Merged:
    """Add to a store what another has and it lacks.

    Any number of launches may use both meanwhile. A kill leaves each trial added whole, or not at all; the
    same command then adds the rest. Raises StoreError: the target cannot be written.
    """
    target.create()
    ours = target.records(source.records.keys())
    found = Merged()
    for batch in _batches(sorted(source.records)):
        arriving = []
        our_epochs = target.epochs(ours.keys() & set(batch))
        for record in source.with_epochs(batch):
            old = ours.get(record.trial_id)
            if old is None or (old.status == "failed" != record.status):
                if target.has_forgotten(record):
                    found.behind += 1
                else:
                    arriving.append(record)
            elif record.status == "failed":
                found.equal += old.status == "failed"
                found.behind += old.status != "failed"
            elif conflict := _conflict(old, our_epochs.get(record.trial_id, []), record):
                found.conflicts.append(conflict)
            else:
                found.equal += 1
        _add(target, source, arriving, ours, found)
    _merge_lineages(target, source, found)
    known = set(target.notes.read())
    try:
        for note in source.store.notes.read():
            if note not in known:
                target.notes.add(note)
                found.notes += 1
    except OSError as error:
        raise unwritable(target.root, error) from error
    return found


def _add(
    target: Store, source: Source, records: Sequence[Record], ours: Mapping[str, Record], found: Merged
) -> None:
    """Add records to the target; those with kept weights under locks, because a launch may write these."""
    with target.locks([record.trial_id for record in records if record.checkpoint]) as locked:
        ready = []
        for record in records:
            if not record.checkpoint:
                ready.append(record)
            elif record.trial_id not in locked:
                found.busy.append(record.trial_id)
            elif target.ended(record.trial_id) in ("done", "diverged"):
                found.behind += 1  # a launch has trained it meanwhile
            elif _copy_weights(source.store, target, record.trial_id):
                found.weights += 1
                ready.append(record)
            else:
                found.damaged_weights.append(record.trial_id)
                note = "the weights were damaged or gone when stores were merged"
                notes = "; ".join(filter(None, (record.notes, note)))
                ready.append(replace(record, checkpoint=None, notes=notes))
        added = target.insert(ready) if ready else []
    for each in added:
        (found.replaced if each in ours else found.added).append(each)
    found.behind += len(ready) - len(added)  # a launch has trained these meanwhile


def _conflict(ours: Record, our_epochs: Sequence[Mapping[str, Any]], theirs: Record) -> Conflict | None:
    """Return the first number in which two results of one trial differ, None if there is none."""

    def made(number: str, own: Any, other: Any) -> Conflict:
        return Conflict(
            trial_id=ours.trial_id,
            number=number,
            ours=own,
            theirs=other,
            our_machine=_machine(ours),
            their_machine=_machine(theirs),
        )

    for name in NUMBERS:
        own, other = getattr(ours, name), getattr(theirs, name)
        # A column that one of two versions did not have yet says nothing.
        if own != other and own is not None and other is not None:
            return made(name, own, other)
    for row, epoch in zip(our_epochs, theirs.epochs, strict=False):
        for name in ("train_loss", "train_error", "test_loss", "test_error"):
            if row[name] != getattr(epoch, name):
                return made(f"{name} of epoch {epoch.epoch}", row[name], getattr(epoch, name))
    return None


def _machine(record: Record) -> str:
    """Return where a trial was trained, in a few words."""
    source = record.provenance
    name = source.gpu or source.cpu or "an unknown machine"
    return printable(f"{name} ({source.host})" if source.host else name)


# --- reading what somebody else wrote -------------------------------------------------------------


def _refuse_links(store: Store) -> None:
    """Raise StoreError unless there is a store, of directories and regular files alone."""
    if not store.root.is_dir():
        raise StoreError(f"{store.root}: no such results directory")
    work = store.root / ".work"
    folders = [work / "ended", store.root / "searches", store.root / "notes"]
    parts = [store.trials_path, store.epochs_path, work, *folders]
    if not any(os.path.lexists(path) for path in parts):
        raise StoreError(f"{store.root}: holds no results of gridrun")
    inside = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    for path in (*parts, store.root / "checkpoints", *inside):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:  # a launch there has moved it into the Parquet files meanwhile
            continue
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise StoreError(f"{path}: is a link or a device, which no store of gridrun has")


def _as_if_pending(root: Path, record: Record) -> Record:
    """Return a record, checked as one that waits for compaction is. Raises StoreError."""
    try:
        return Record.from_json(record.to_json())
    except ValueError as error:
        raise StoreError(f"{root}: trial {record.trial_id}: {error}") from None
    except TypeError:  # bytes, times, decimals
        raise StoreError(f"{root}: trial {record.trial_id}: has a value that no config has") from None


def _checked_lineages(store: Store) -> dict[str, list[LineageRow]]:
    found = store.lineages()
    for search_id, rows in found.items():
        ids = [search_id, *(row.search_id for row in rows)]
        ids += [each for row in rows for each in (row.trial_id, row.parent_id) if each is not None]
        try:
            for row in rows:
                read(LineageRow, dataclasses.asdict(row))
        except ValueError as error:
            raise StoreError(f"{store.root}: search {search_id}: {error}") from None
        if any(not is_trial_id(str(each)) for each in ids) or len({*ids[: len(rows) + 1]}) > 1:
            raise StoreError(
                f"{store.root}: search {printable(search_id)}: is not the lineage of that search"
            )
    return found


def _copy_weights(source: Store, target: Store, trial_id: str) -> bool:
    """Copy the weights of a trial; return False, and copy nothing, if they are not whole."""
    try:
        handle = os.open(source.weights_path(trial_id), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return False
    with os.fdopen(handle, "rb") as file:
        content = file.read()
    if hashlib.sha256(content[:-DIGEST_SIZE]).digest() != content[-DIGEST_SIZE:]:
        return False
    try:
        target.put_weights(trial_id, content)
    except OSError as error:
        path = target.weights_path(trial_id)
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from None
    return True


def _merge_lineages(target: Store, source: Source, found: Merged) -> None:
    """Take over lineages that go further, and note those that contradict.

    Of two that each have rows of their own, no third one is made: an asynchronous search goes on from its
    lineage, which must be one history.
    """
    for search_id, rows in source.lineages.items():
        with target.lock(search_id) as claim:  # an asynchronous search holds it while it runs
            ours = {(row.round, row.member): row for row in target.lineage(search_id)}
            theirs = {(row.round, row.member): row for row in rows}
            joined = {**theirs, **ours}
            for key in ours.keys() & theirs.keys():
                if ours[key].val_error is None:
                    joined[key] = replace(ours[key], val_error=theirs[key].val_error)
            agree = all(theirs[key] in (joined[key], replace(joined[key], val_error=None)) for key in theirs)
            both_have_own = ours.keys() - theirs.keys() and theirs.keys() - ours.keys()
            if both_have_own or not agree:
                found.search_conflicts.append(search_id)
            elif joined != ours and not claim:
                found.busy.append(search_id)
            elif joined != ours:
                target.write_lineage(search_id, [joined[key] for key in sorted(joined)])
                found.searches.append(search_id)


def _batches(trial_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(trial_ids), _BATCH):
        yield trial_ids[start : start + _BATCH]
