"""A compaction that is paused, taken over by another machine and goes on then: at whatever instant."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd
import pytest
from test_store import record

from gridrun import store
from gridrun.errors import StoreError
from gridrun.store import Store, compaction, ends, leases, parquet, pending
from trainer import files

CODE = {module.__file__ for module in (store, compaction, ends, leases, parquet, pending, files)}
ELSEWHERE = {"host": "elsewhere", "kernel": "another", "pid": 1, "started": 1}


def elsewhere(root: Path) -> Store:
    """Return a store as another machine has it."""
    there = Store(root)
    there._leases._owner = ELSEWHERE
    return there


def stepwise(work: Callable[[], None], at: Callable[[str, int], bool], pause: Callable[[], None]) -> None:
    """Do some work, with a pause before the first line of the store's code of which `at` says so."""
    paused = False

    def step(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal paused
        if event == "line" and not paused and at(frame.f_code.co_filename, frame.f_lineno):
            paused = True
            pause()
        return step

    before = sys.gettrace()
    sys.settrace(lambda frame, *_: step if frame.f_code.co_filename in CODE else None)
    try:
        work()
    finally:
        sys.settrace(before)


def begun(root: Path, status: str) -> Store:
    """Return a store with a trial in the Parquet files and one that has just ended."""
    here = Store(root)
    here.create()
    here.add(record(0))
    here.compact(now=True)
    here.add(record(1, status, at=1))
    return here


def taken_over(root: Path, status: str) -> None:
    """Do what another machine does that has watched the lease for a minute, and then goes on."""
    for lease in (root / ".work" / "leases").iterdir():
        lease.unlink()
    there = elsewhere(root)
    there.add(record(2))
    if status != "done":
        there.add(record(1, at=2))
    there.compact(now=True)
    there.add(record(3))
    there.compact(now=True)


def check(root: Path) -> None:
    here = Store(root)
    assert here.statuses() == {record(number).trial_id: "done" for number in range(4)}
    here.compact(now=True)
    trials, epochs = pd.read_parquet(here.trials_path), pd.read_parquet(here.epochs_path)
    assert trials["trial_id"].tolist() == sorted(here.statuses())
    assert set(trials["status"]) == {"done"}
    assert sorted(epochs["trial_id"]) == sorted([*trials["trial_id"]] * 2)
    left = [
        path for path in root.rglob("*") if path.is_file() and path.parent.name not in (root.name, ".work")
    ]
    assert not left
    assert {path.name for path in root.iterdir()} == {"trials.parquet", "epochs.parquet", ".work"}


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("what", ["compact", "tidy"])
@pytest.mark.parametrize("status", ["done", "failed"])
def test_what_another_machine_compacted_meanwhile_stays(
    status: str, what: str, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(parquet, "TIDY_ROW_GROUPS", 0)
    lines: dict[tuple[str, int], None] = {}

    def work(here: Store) -> None:
        if what == "compact":
            here.compact(now=True)
        else:
            here.tidy()

    here = begun(tmp_path / "first", status)
    stepwise(lambda: work(here), lambda *line: bool(lines.setdefault(line)), lambda: None)
    assert len(lines) > 80, "of the store, parquet and files"
    for number, line in list(enumerate(lines))[::every]:
        root = tmp_path / str(number)
        here = begun(root, status)
        over: list[bool] = []

        def pause(root: Path = root, over: list[bool] = over) -> None:
            taken_over(root, status)
            over.append(True)

        stepwise(lambda here=here: work(here), lambda *at, line=line: at == line, pause)
        assert over, line
        try:
            check(root)
        except AssertionError as error:
            raise AssertionError(f"paused before {line}") from error


def test_a_record_that_was_trained_anew_during_a_pause_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = begun(tmp_path, "done")
    drop = pending.PendingRecords.drop

    def late(*arguments: Any) -> None:
        monkeypatch.undo()
        for lease in (tmp_path / ".work" / "leases").iterdir():
            lease.unlink()
        there = elsewhere(tmp_path)
        there.forget([record(1).trial_id])
        there.add(record(1, at=9))
        drop(*arguments)

    monkeypatch.setattr(pending.PendingRecords, "drop", late)
    here.compact(now=True)
    here.compact(now=True)
    assert here.statuses().keys() == {record(0).trial_id, record(1).trial_id}
    assert here.records()[record(1).trial_id].ended_at == record(1, at=9).ended_at


def test_a_partial_file_that_goes_while_it_is_looked_for_is_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process has been overtaken, and removes it."""
    here = begun(tmp_path, "done")
    glob = Path.glob

    def late(directory: Path, pattern: str) -> Iterator[Path]:
        yield from glob(directory, pattern)
        if pattern.endswith(".partial"):
            yield directory / pattern.replace("*", "gone")

    monkeypatch.setattr(Path, "glob", late)
    here.compact(now=True)
    assert not list((tmp_path / ".work" / "ended").iterdir())


def test_who_was_overtaken_compacts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that took over may have been killed since."""
    here = begun(tmp_path, "done")

    def overtaken(*_: Any) -> None:
        for lease in (tmp_path / ".work" / "leases").iterdir():
            lease.unlink()
        monkeypatch.undo()
        raise FileNotFoundError

    monkeypatch.setattr(parquet, "append", overtaken)
    here.compact(now=True)
    assert not list((tmp_path / ".work" / "ended").iterdir())
    assert here.statuses() == {record(number).trial_id: "done" for number in range(2)}


@pytest.mark.parametrize("overtaken", [True, False])
def test_records_that_are_inserted_are_written_anew_by_who_was_overtaken_and_refused_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overtaken: bool
) -> None:
    here = begun(tmp_path, "done")
    write, times = parquet.append, 0

    def fail_once(*arguments: Any) -> None:
        nonlocal times
        times += 1
        assert times < 10, "it goes on for ever"
        if times == 1 or not overtaken:
            if overtaken:
                taken_over(tmp_path, "done")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments)

    monkeypatch.setattr(parquet, "append", fail_once)
    if overtaken:
        assert here.insert([record(4)]) == [record(4).trial_id]
        monkeypatch.undo()
        here.compact(now=True)
        assert here.statuses() == {record(number).trial_id: "done" for number in range(5)}
    else:
        with pytest.raises(StoreError, match="No space left on device"):
            here.insert([record(4)])
        assert times == 1
