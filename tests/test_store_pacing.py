"""When a store compacts and tidies, by clocks that nothing but these tests moves."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from test_store import record

from gridrun.store import Store, compaction
from gridrun.store.launches import LaunchState


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    store.create()
    return store


@pytest.mark.parametrize(
    ("seconds", "pause"),
    [(0.0, 2.0), (0.01, 2.0), (0.08, 2.0), (0.5, 10.0), (3.0, 60.0)],  # at most a twentieth of the time
)
def test_the_longer_a_compaction_takes_the_longer_until_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch, seconds: float, pause: float
) -> None:
    now, done = [1000.0], []

    def once(self: compaction.Compaction, *, wait: bool) -> bool:
        now[0] += seconds
        done.append(now[0])
        return True

    monkeypatch.setattr(compaction, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(compaction.Compaction, "_once", once)
    store.compact()
    assert len(done) == 1, "the first at once"
    now[0] = done[0] + pause - 0.001
    store.compact()
    assert len(done) == 1
    now[0] = done[0] + pause
    store.compact()
    assert len(done) == 2
    store.compact(now=True)
    assert len(done) == 3, "in any case"


@pytest.fixture
def slept(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the pauses of `tidy`, which only make files look older."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        for path in (store.trials_path, store.epochs_path):
            if path.exists():
                times = path.stat()
                os.utime(path, (times.st_atime, times.st_mtime - seconds))

    monkeypatch.setattr(compaction, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    for number in range(9):  # more row groups than are left alone
        store.add(record(number))
        store.compact(now=True)
    sleep(1.0)
    pauses.clear()
    return pauses


def groups(store: Store) -> int:
    return int(pq.ParquetFile(store.trials_path).metadata.num_row_groups)


def test_tidy_takes_three_steps_a_second_apart(store: Store, slept: list[float]) -> None:
    """All rows behind the old ones, then in front of them, then the old bytes are cut off."""
    assert groups(store) == 9
    before = store.rows()
    store.tidy()
    assert slept == [1.0, 1.0]
    assert groups(store) == 1
    assert store.rows() == before
    size = store.trials_path.stat().st_size
    slept.clear()
    store.tidy()
    assert (slept, store.trials_path.stat().st_size) == ([], size), "nothing is left to do"


def test_a_few_row_groups_are_not_worth_a_rewrite(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        store.add(record(number))
        store.compact(now=True)
    store.tidy()
    assert groups(store) == 8


def test_tidy_goes_on_while_one_of_the_two_files_needs_it(store: Store, slept: list[float]) -> None:
    store.epochs_path.unlink()
    scattered = store.trials_path.stat().st_size
    store.tidy()
    assert (slept, groups(store)) == ([1.0, 1.0], 1)
    assert store.trials_path.stat().st_size < scattered


def test_tidy_ends_between_two_steps_when_it_is_told_to(store: Store, slept: list[float]) -> None:
    before = store.rows()
    asked: list[None] = []

    def until() -> bool:
        asked.append(None)
        return len(asked) == 2  # once before it begins

    store.tidy(until)
    assert (slept, groups(store)) == ([], 1)
    assert store.rows() == before
    store.tidy(lambda: True)
    assert len(pq.read_table(store.trials_path)) == 9


def test_tidy_leaves_it_to_another_launch_that_is_running(store: Store, slept: list[float]) -> None:
    store.launches.write("0123456789abcdef", LaunchState(started_at="x", total=1))
    store.tidy()
    assert (slept, groups(store)) == ([], 9)
    with store._leases.hold("compact") as held:
        store.launches.end("0123456789abcdef")
        assert held
        Store(store.root).tidy()
    assert groups(store) == 9
