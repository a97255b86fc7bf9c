"""Links that somebody plants in a shared results directory: nothing is written where they point."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from test_store import record

from gridrun.errors import StoreError
from gridrun.store import Store
from gridrun.store.launches import LaunchState
from gridrun.store.lineage import LineageRow
from gridrun.store.notes import Note
from trainer import checkpoint, files

ID = record(1).trial_id
FILES = [
    "trials.parquet",
    "epochs.parquet",
    f"checkpoints/{ID}.pt",
    f"searches/{ID}.parquet",
    ".work/README",
    f".work/ended/{ID}.json",
    f".work/checkpoints/{ID}.pt",
    f".work/checkpoints/{ID}.pt.epoch",
    ".work/launches/one.json",
    ".work/launches/one.stop",
]
DIRECTORIES = [
    *("checkpoints", "searches", ".work", ".work/ended", ".work/checkpoints", ".work/launches"),
    *(".work/leases", ".work/asked"),
]
LINEAGE = LineageRow(
    search_id=ID,
    name="search",
    round=1,
    member=0,
    seed=0,
    first_epoch=1,
    last_epoch=2,
    trial_id=ID,
    parent_id=None,
    donor=None,
    policy="none",
    val_error=None,
)


def write_everything(store: Store) -> int:
    """Do all that a launch does to a store; return how many steps were refused."""
    refused = 0
    steps = (
        store.create,
        lambda: store.note_epoch(ID, 7),
        lambda: store.add(record(1)),
        lambda: store.compact(now=True),
        lambda: store.write_lineage(ID, [LINEAGE]),
        lambda: store.lock("name").__enter__(),
    )
    for step in steps:
        try:
            step()
        except StoreError:
            refused += 1
    return refused


def write_files(store: Store) -> None:
    """Write the files that only belong to a launch whose store was created."""
    (store.root / ".work" / "launches").mkdir(exist_ok=True)  # a refused `create` made none
    checkpoint.save(store.checkpoint(ID), {"epoch": 1})
    checkpoint.save(store.weights_path(ID), {"epoch": 1})
    store.launches.write("one", LaunchState(started_at="2026-01-01", total=1))
    store.requested.add("grid", [ID])
    with contextlib.suppress(OSError):
        files.touch(store.launches.stop_path("one"))


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_no_file_is_written_through_a_link(name: str, exists: bool, tmp_path: Path) -> None:
    target = tmp_path / "victim" / "file"
    target.parent.mkdir()
    if exists:
        target.write_text("mine")
    link = tmp_path / "results" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    store = Store(tmp_path / "results")
    write_everything(store)
    write_files(store)
    assert [path.name for path in target.parent.iterdir()] == ["file"] * exists
    assert not exists or target.read_text() == "mine"


@pytest.mark.parametrize("name", DIRECTORIES)
def test_no_file_is_written_into_a_directory_that_is_a_link(name: str, tmp_path: Path) -> None:
    target, link = tmp_path / "victim", tmp_path / "results" / name
    target.mkdir()
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    assert write_everything(Store(tmp_path / "results")) == 5, "all but the note of an epoch, which may fail"
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("name", ["notes", "forgotten"])
def test_no_note_or_forgotten_record_is_written_into_a_link(name: str, tmp_path: Path) -> None:
    store, victim = Store(tmp_path / "results"), tmp_path / "victim"
    store.create()
    store.add(record(1))
    victim.mkdir()
    (victim / f"{ID}.theirs.json").write_text("theirs")
    (store.root / name).symlink_to(victim)
    if name == "forgotten":
        with pytest.raises(StoreError, match=r"Leads elsewhere: .*/forgotten, a link to .*/victim\)"):
            store.forget([ID])
    else:
        for write in (
            lambda: store.notes.add(Note(about=ID, text="a note", at="")),
            lambda: store.notes.clear([ID]),
        ):
            with pytest.raises(OSError, match="Leads elsewhere"):
                write()
    assert [path.name for path in victim.iterdir()] == [f"{ID}.theirs.json"]
    assert store.statuses() == {ID: "done"}


def test_the_results_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "large_disk").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "large_disk")
    store = Store(tmp_path / "results")
    assert write_everything(store) == 0
    assert store.statuses() == {ID: "done"}


@pytest.mark.parametrize("name", [".", "checkpoints", ".work/ended"])
def test_a_link_to_nowhere_is_named_with_its_target(name: str, tmp_path: Path) -> None:
    link = tmp_path / "results" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to("/nowhere/else")
    with pytest.raises(StoreError, match=f"{link}[:,] (is )?a link to /nowhere/else"):
        Store(tmp_path / "results").create()


def test_a_fifo_does_not_stop_a_trial(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    store.create()
    os.mkfifo(store.checkpoint(ID).with_suffix(".pt.epoch"))
    store.note_epoch(ID, 7)
