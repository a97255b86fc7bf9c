"""What an NFS client answers from memory, and how it says that a file has gone, without an NFS.

A client remembers for up to a minute which files a directory has; opening the directory makes it
ask. That it does was seen between real ones (`benchmarks/two_machines.py --mount nfs`).
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gridrun.errors import StoreError
from gridrun.store import Store
from gridrun.store.launches import LaunchState
from gridrun.store.leases import Claim, Leases
from gridrun.store.records import Provenance, Record
from gridrun.sweep.worker import Setup
from trainer import Runtime, files

_opened: list[Path] | None = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    listed = event in ("open", "os.scandir", "os.listdir")
    if listed and _opened is not None and isinstance(arguments[0], (str, os.PathLike)):
        _opened.append(Path(arguments[0]))


sys.addaudithook(_hear)


@pytest.fixture
def opened() -> Iterator[list[Path]]:
    """What is opened or listed, in order."""
    global _opened
    _opened = []
    yield _opened
    _opened = None


def record(number: int, **fields: Any) -> Record:
    trial_id = f"{number:016x}"
    about = {"status": "done", "config": {"lr": 0.1}, "config_json": "{}", "ended_at": f"2026-01-01T{number}"}
    return Record(**{"trial_id": trial_id, "config_id": trial_id, "seed": 0, **about, **fields})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a trial in its files, and one that is about to go there."""
    store = Store(tmp_path)
    store.create()
    store.add(record(1))
    store.compact(now=True)
    store.add(record(2))
    return store


LOOKS: dict[str, Callable[[Store], object]] = {
    "end": lambda store: store.end(record(2).trial_id),
    "rows": lambda store: store.rows([record(2).trial_id]),
    "all rows": lambda store: store.rows(),
    "epochs": lambda store: store.epochs([record(2).trial_id]),
    "statuses": lambda store: store.statuses(),
    "trials": lambda store: store.trials_table(),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_directory_is_opened_before_its_files_are_looked_for(
    look: Callable[[Store], object], store: Store, opened: list[Path]
) -> None:
    look(store)
    looked_for = [path for path in opened if path.suffix in (".json", ".parquet")]
    assert looked_for
    for path in looked_for:
        assert path.parent in opened[: opened.index(path)], path


def test_a_compaction_asks_for_the_version_that_it_adds_to(store: Store, opened: list[Path]) -> None:
    store.compact(now=True)
    for path in (store.trials_path, store.epochs_path):
        before = opened[: opened.index(path)]
        partial = max(at for at, one in enumerate(before) if one.name.endswith(".partial"))
        assert path.parent in before[partial:]


def test_word_to_stop_is_asked_for(tmp_path: Path, opened: list[Path]) -> None:
    setup = Setup(
        results=tmp_path,
        runtime=Runtime(),
        code=Provenance(),
        stop_file=tmp_path / "launches" / "one.stop",
    )
    assert not setup.is_closed
    assert [path for path in opened if path.parent == tmp_path] == 2 * [tmp_path / "launches"]


def stale(*arguments: object, **named: object) -> None:
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


def test_a_lease_that_was_removed_elsewhere_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "utime", stale)
    assert not Claim(tmp_path / "lease").held()


def test_a_lease_that_goes_while_it_is_looked_at_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = Leases(tmp_path)
    assert leases.claim("one")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", stale)
        claim = leases.claim("one")
    assert claim


def test_a_record_that_is_compacted_while_it_is_read_is_no_mistake(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = files.open_to_read
    monkeypatch.setattr(
        files, "open_to_read", lambda path: stale() if path.suffix == ".json" else opened(path)
    )
    assert store.statuses() == {record(1).trial_id: "done"}


def test_what_is_replaced_while_it_is_read_is_read_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.launches.write("launch", LaunchState(started_at="2026-01-01", total=1))
    opened, left = files.open_to_read, [0]

    def replaced(path: Path) -> Any:
        left[0] -= 1
        return stale() if left[0] >= 0 else opened(path)

    monkeypatch.setattr(files, "open_to_read", replaced)
    left[0] = 2
    assert store.statuses().keys() == {record(1).trial_id, record(2).trial_id}
    left[0] = 2
    assert [launch.total for launch in store.launches.running()] == [1]


def test_a_version_that_is_replaced_while_it_is_read_is_read_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, left = pq.ParquetFile.read, [2]

    def replaced(file: pq.ParquetFile, **named: Any) -> object:
        left[0] -= 1
        return stale() if left[0] >= 0 else read(file, **named)

    monkeypatch.setattr(pq.ParquetFile, "read", replaced)
    assert store.rows().keys() == {record(1).trial_id, record(2).trial_id}
    left[0] = 1000
    with pytest.raises(StoreError, match="cannot be read"):
        store.rows()


def test_what_two_machines_ask_for_at_once_goes_to_two_files(store: Store) -> None:
    store.requested.add("grid", [record(1).trial_id])
    store.requested.add("grid", [record(1).trial_id, record(2).trial_id])
    store.requested.add("grid", [record(2).trial_id])
    store.requested.add("another", [record(3).trial_id])
    written = [path.read_text().split() for path in (store.root / ".work" / "asked").glob("grid*")]
    assert sorted(written) == [[record(1).trial_id], [record(2).trial_id]]
    assert store.requested.read("grid") == {record(1).trial_id, record(2).trial_id}
    assert store.requested.read("another") == {record(3).trial_id}
    assert store.requested.read("none") == set()


def test_what_nfs_keeps_of_a_removed_lease_is_none(tmp_path: Path) -> None:
    claim = Leases(tmp_path).claim("x")
    assert claim
    (tmp_path / ".nfs000000000004a2c500000001").touch()
    assert Leases(tmp_path).names() == {"x"}
