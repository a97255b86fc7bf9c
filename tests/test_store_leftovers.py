"""What a kill leaves behind is gone once its work is done again, be the kill between any two writes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from test_store import record

from gridrun.store import Store

WRITES = ("os.rename", "os.remove", "open")
KILLED = 9


def killed_at(number: int, work: Callable[[Path], object], root: Path) -> bool:
    """Work on a store in a copy of this process that dies before its n-th write. Return whether it did."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork in a process with threads
        pid = os.fork()
    if not pid:
        left = [number]

        def watch(event: str, arguments: tuple[object, ...]) -> None:
            if event in WRITES and (event != "open" or _writes(arguments)):
                left[0] -= 1
                if not left[0]:
                    os._exit(KILLED)

        sys.addaudithook(watch)
        try:
            work(root)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == KILLED


def _writes(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def files_in(directory: Path) -> list[str]:
    """Return all files below a directory, by their paths from there."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def end_twice(root: Path) -> None:
    """Let a trial fail, then be done, with a compaction after each; and another, a checkpoint and weights."""
    store = Store(root)
    store.create()
    for one in (record(1, "failed", 1), record(2), record(1, "done", 2)):
        with store.lock(one.trial_id):
            store.checkpoint(one.trial_id).write_bytes(b"state")
            store.note_epoch(one.trial_id, 1)
            if one.status == "done":
                store.weights_path(one.trial_id).parent.mkdir(exist_ok=True)
                store.weights_path(one.trial_id).write_bytes(b"weights")
            store.add(one)
            store.drop_checkpoint(one.trial_id)
        store.compact(now=True)


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_store_that_was_killed_between_two_writes_has_nothing_left_over(tmp_path: Path, every: int) -> None:
    kills = 0
    while killed_at(kills + 1, end_twice, root := tmp_path / str(kills)):
        before = {i: s for i, s in Store(root).statuses().items() if s == "done"}
        end_twice(root)
        store = Store(root)
        assert store.statuses() == {record(1).trial_id: "done", record(2).trial_id: "done"}
        assert before.items() <= store.statuses().items()
        assert files_in(root) == [
            ".work/README",
            f"checkpoints/{record(1).trial_id}.pt",
            f"checkpoints/{record(2).trial_id}.pt",
            "epochs.parquet",
            "trials.parquet",
        ], f"killed before write {kills + 1}"
        assert [len(rows) for rows in store.epochs(before).values()] == [2] * len(before)
        kills += every
    assert kills > 40


def test_a_record_under_another_s_name_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    store.add(record(1))
    path = tmp_path / ".work/ended" / f"{record(1).trial_id}.json"
    path.rename(path.with_name(f"{record(2).trial_id}.json"))
    with pytest.raises(Exception, match=rf"{record(2).trial_id}\.json: the record of another trial"):
        store.statuses()
