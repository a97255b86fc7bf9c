"""Merging stores: what comes out does not depend on the order, and nothing is overwritten."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cli
from gridrun.errors import StoreError
from gridrun.store import Store, parquet
from gridrun.store.lineage import LineageRow
from gridrun.store.merge import Merged, merge, open_source
from gridrun.store.notes import Note
from gridrun.store.records import Provenance, Record
from gridrun.trial import digest, trial_id
from trainer.metrics import Epoch


def record(number: int, error: float = 0.1, status: str = "done", **fields: object) -> Record:
    """Return a record whose id is that of its content."""
    config = {"lr": number / 10}
    config_id = digest({"config": config, "version": 1})
    made = {"test_loss": None, "train_error": 0.5, "train_loss": 1.0, "train_seconds": 2.0, "lr": 0.1}
    curve = tuple(Epoch(epoch=n, test_error=error + 0.1 * (2 - n), **made) for n in (1, 2))
    return Record(
        trial_id=trial_id(config_id, 0),
        config_id=config_id,
        seed=0,
        status=status,  # type: ignore[arg-type]
        config=config,
        config_json=json.dumps(config),
        ended_at="2026-01-01T00:00:00.000+00:00",
        test_error=None if status == "failed" else error,
        epochs_trained=2,
        epochs=curve,
        **{"provenance": Provenance(trainer_version=1, host="a"), **fields},  # type: ignore[arg-type]
    )


def store_of(root: Path, *records: Record) -> Store:
    store = Store(root)
    store.create()
    for each in records:
        store.add(each)
    return store


def merged(target: Store, *others: Store) -> list[Merged]:
    return [merge(target, open_source(Store(other.root))) for other in others]


def numbers(store: Store) -> Mapping[str, tuple[object, ...]]:
    """Return what a store says of its trials, but for when and where."""
    epochs = store.epochs(store.statuses())
    return {
        each.trial_id: (each.status, each.test_error, [row["test_error"] for row in epochs[each.trial_id]])
        for each in store.records().values()
    }


def gridrun(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["merge", *map(str, arguments)])


def test_new_trials_are_added_equal_ones_counted(tmp_path: Path) -> None:
    ours = store_of(tmp_path / "ours", record(1), record(2))
    again = replace(record(2), train_seconds=99.0, provenance=Provenance(trainer_version=1, host="b"))
    theirs = store_of(tmp_path / "theirs", again, record(3))
    done = gridrun(theirs.root, "--results", ours.root)
    assert (done.exit_code, done.stdout) == (0, f"{theirs.root}: 1 added, 1 equal\n")
    assert len(ours.statuses()) == 3
    assert ours.epochs([record(3).trial_id])[record(3).trial_id] == record(3).epoch_rows()
    assert ours.records([record(2).trial_id])[record(2).trial_id].train_seconds is None, "ours stays"


def test_other_numbers_under_one_id_are_shown_and_ours_stay(tmp_path: Path) -> None:
    ours = store_of(tmp_path / "ours", record(1, 0.0632))
    theirs = store_of(tmp_path / "theirs", record(1, 0.0641), record(2))
    before = ours.rows()
    done = gridrun(theirs.root, "--results", ours.root)
    assert done.exit_code == 1
    assert done.stdout == (
        f"{theirs.root}: 1 added, 1 in conflict\n"
        f"  {record(1).trial_id}: test error is 6.32 % on an unknown machine (a) here, "
        "6.41 % on an unknown machine (a) there\n"
    )
    assert ours.rows() == {**ours.rows(), **before}
    ours_again = store_of(tmp_path / "curve", replace(record(1, 0.0632), epochs=record(1, 0.1).epochs))
    (found,) = merged(ours_again, ours)
    assert found.conflicts[0].number == "test_error of epoch 1"


def test_a_number_that_one_of_two_versions_did_not_record_is_no_conflict(tmp_path: Path) -> None:
    ours = store_of(tmp_path / "ours", record(1, num_params=5), record(2), record(3, num_params=5))
    theirs = store_of(tmp_path / "theirs", record(1), record(2, num_params=5), record(3, num_params=6))
    (found,) = merged(ours, theirs)
    assert found.equal == 2
    (conflict,) = found.conflicts
    assert (conflict.trial_id, conflict.number) == (record(3).trial_id, "num_params")
    assert (conflict.ours, conflict.theirs) == (5, 6)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ({"gpu": "H200", "cpu": "Xeon", "host": "box"}, "H200 (box)"),
        ({"cpu": "Xeon"}, "Xeon"),
        ({"host": "box"}, "an unknown machine (box)"),
    ],
)
def test_a_conflict_names_both_machines(source: dict[str, str], named: str, tmp_path: Path) -> None:
    here = record(1, provenance=Provenance(trainer_version=1, **source))  # type: ignore[arg-type]
    ours, theirs = store_of(tmp_path / "ours", here), store_of(tmp_path / "theirs", record(1, 0.2))
    (conflict,) = merged(ours, theirs)[0].conflicts
    assert (conflict.our_machine, conflict.their_machine) == (named, "an unknown machine (a)")


def test_a_result_takes_the_place_of_a_failure_and_no_failure_that_of_a_result(tmp_path: Path) -> None:
    ours = store_of(tmp_path / "ours", record(1, status="failed"), record(2), record(3, status="failed"))
    ours.add(record(4))
    failed = (record(n, status="failed") for n in (2, 3, 4))
    theirs = store_of(tmp_path / "theirs", record(1), *failed)
    (found,) = merged(ours, theirs)
    assert (found.replaced, found.behind, found.equal) == ([record(1).trial_id], 2, 1)
    assert ours.statuses()[record(1).trial_id] == ours.statuses()[record(2).trial_id] == "done"
    assert len(ours.epochs([record(1).trial_id])[record(1).trial_id]) == 2


@pytest.mark.parametrize("failed_before", [0, 2])
def test_a_failure_in_mid_merge_does_not_replace_a_diverged_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failed_before: int
) -> None:
    before = [record(1, status="failed", attempts=failed_before)] if failed_before else []
    ours, theirs = (
        store_of(tmp_path / "ours", *before),
        store_of(tmp_path / "theirs", record(1, status="diverged", attempts=1)),
    )
    ours.compact(now=True)
    append = parquet.append

    def late(*arguments: Any) -> None:  # a launch was training this trial all the while
        again = replace(record(1, status="failed", attempts=failed_before + 1), ended_at="2026-01-02")
        if arguments[0] == ours.epochs_path and arguments[1]:
            Store(ours.root)._pending.add(again)
        append(*arguments)
        if arguments[0] == ours.trials_path:
            Store(ours.root).add(again)

    monkeypatch.setattr(parquet, "append", late)
    merged(ours, theirs)
    monkeypatch.undo()
    for _ in range(2):
        assert ours.statuses() == {record(1).trial_id: "diverged"}
        assert ours.records()[record(1).trial_id].attempts == failed_before + 1
        ours.compact(now=True)
    assert not list(ours.root.glob(".work/ended/*"))
    retried = replace(record(1, status="failed", attempts=failed_before + 2), ended_at="2026-01-03")
    ours.add(retried)  # as `gridrun retry --diverged` does
    assert ours.statuses() == {record(1).trial_id: "failed"}


STORES = st.dictionaries(st.integers(1, 4), st.sampled_from(["done", "diverged", "failed"]), max_size=4)
"""Of each trial one result at most, so that there are no conflicts: a status for its number."""
QUICK = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
RESULTS = {1: "done", 2: "diverged", 3: "done", 4: "diverged"}


def make(root: Path, trials: Mapping[int, str]) -> Store:
    """Return a store in which each trial has failed, or has its one result."""
    return store_of(root, *(record(n, status=s if s == "failed" else RESULTS[n]) for n, s in trials.items()))


@QUICK
@given(a=STORES, b=STORES, c=STORES)
def test_the_order_of_merging_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, a: dict[int, str], b: dict[int, str], c: dict[int, str]
) -> None:
    root = tmp_path_factory.mktemp("stores")

    def joined(name: str, first: Callable[[str], Store], *others: Callable[[str], Store]) -> Store:
        store = first(f"{name}0")
        found = merged(store, *(other(f"{name}{n}") for n, other in enumerate(others, 1)))
        assert not any(each.has_conflicts for each in found)
        return store

    of_a, of_b, of_c = (lambda name, t=t: make(root / name, t) for t in (a, b, c))
    left = joined("left", lambda name: joined(f"{name}x", of_a, of_b), of_c)
    right = joined("right", of_a, lambda name: joined(f"{name}x", of_b, of_c))
    backwards = joined("back", of_c, of_b, of_a)
    assert numbers(left) == numbers(right) == numbers(backwards)
    again = merged(left, right, left_copy := make(root / "empty", {}))
    assert (again[0].added, again[0].replaced) == ([], []), "idempotent"
    assert numbers(left) == numbers(right)
    merged(left_copy, left)
    assert numbers(left_copy) == numbers(left)


@QUICK
@given(errors=st.lists(st.sampled_from([0.1, 0.2]), min_size=3, max_size=3))
def test_of_conflicting_results_the_first_stays_and_each_other_is_told(
    tmp_path_factory: pytest.TempPathFactory, errors: list[float]
) -> None:
    root = tmp_path_factory.mktemp("stores")
    first, *others = (store_of(root / str(n), record(1, error)) for n, error in enumerate(errors))
    found = merged(first, *others)
    assert [bool(each.conflicts) for each in found] == [error != errors[0] for error in errors[1:]]
    assert first.records()[record(1).trial_id].test_error == errors[0]


def weights_of(store: Store, number: int, content: bytes = b"weights") -> Path:
    path = store.weights_path(record(number).trial_id)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content + hashlib.sha256(content).digest())
    return path


def test_kept_weights_come_along_unless_they_are_damaged_or_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def insert(store: Store, records: Collection[Record]) -> list[str]:
        calls.append(len(records))
        return original(store, records)

    original = Store.insert
    monkeypatch.setattr(Store, "insert", insert)
    theirs = store_of(tmp_path / "theirs", *(record(n, checkpoint="last") for n in range(1, 7)))
    whole = [weights_of(theirs, n) for n in (1, 2)]
    weights_of(theirs, 3).write_bytes(b"not whole" * 10)
    secret = tmp_path / "secret"
    secret.write_bytes(whole[0].read_bytes())
    theirs.weights_path(record(4).trial_id).symlink_to(secret)
    theirs.weights_path(record(5).trial_id).mkdir()
    os.mkfifo(theirs.weights_path(record(6).trial_id))
    ours = store_of(tmp_path / "ours")
    (found,) = merged(ours, theirs)
    assert found.weights == 2
    assert calls == [6], "the Parquet files are written once"
    assert set(found.damaged_weights) == {record(n).trial_id for n in (3, 4, 5, 6)}
    copies = {path.name: path.read_bytes() for path in (ours.root / "checkpoints").iterdir()}
    assert copies == {path.name: path.read_bytes() for path in whole}
    kept = {trial_id: one.checkpoint for trial_id, one in ours.records().items()}
    assert kept == {record(n).trial_id: "last" if n < 3 else None for n in range(1, 7)}


def test_a_trial_that_is_trained_here_keeps_its_weights_to_itself(tmp_path: Path) -> None:
    theirs = store_of(tmp_path / "theirs", record(1, checkpoint="last"), record(2))
    weights_of(theirs, 1)
    ours = store_of(tmp_path / "ours")
    with ours.lock(record(1).trial_id):
        (found,) = merged(ours, theirs)
    assert (found.busy, found.added) == ([record(1).trial_id], [record(2).trial_id])
    assert not ours.weights_path(record(1).trial_id).exists()
    (found,) = merged(ours, theirs)
    assert (found.busy, found.added, found.equal) == ([], [record(1).trial_id], 1)


def lineage_row(round: int, val_error: float | None, policy: str = "none") -> LineageRow:
    return LineageRow(
        search_id="a" * 16,
        name="search",
        round=round,
        member=0,
        seed=0,
        first_epoch=round,
        last_epoch=round,
        trial_id=f"{round:016x}",
        parent_id=None,
        donor=None,
        policy=policy,
        val_error=val_error,
    )


def test_lineages_grow_and_contradictions_are_told(tmp_path: Path) -> None:
    ours, theirs = store_of(tmp_path / "ours"), store_of(tmp_path / "theirs")
    ours.write_lineage("a" * 16, [lineage_row(1, None)])
    theirs.write_lineage("a" * 16, [lineage_row(1, 0.5), lineage_row(2, None)])
    (found,) = merged(ours, theirs)
    assert found.searches == ["a" * 16]
    assert ours.lineage("a" * 16) == theirs.lineage("a" * 16)
    (found,) = merged(theirs, ours)
    assert (found.searches, found.has_conflicts) == ([], False)
    theirs.write_lineage("a" * 16, [lineage_row(1, 0.5, "other"), lineage_row(2, 0.1)])
    (found,) = merged(ours, theirs)
    assert found.search_conflicts == ["a" * 16]
    assert ours.lineage("a" * 16)[0].policy == "none"
    ours.write_lineage("a" * 16, [lineage_row(1, 0.5), lineage_row(3, None)])
    theirs.write_lineage("a" * 16, [lineage_row(1, 0.5), lineage_row(2, None)])
    (found,) = merged(ours, theirs)
    assert found.search_conflicts == ["a" * 16], "two histories make no third one"


def test_a_lineage_that_a_search_holds_here_is_left_alone(tmp_path: Path) -> None:
    ours, theirs = store_of(tmp_path / "ours"), store_of(tmp_path / "theirs")
    theirs.write_lineage("a" * 16, [lineage_row(1, 0.5)])
    with Store(ours.root).lock("a" * 16):
        (found,) = merged(ours, theirs)
    assert (found.searches, found.has_conflicts, ours.lineage("a" * 16)) == ([], False, [])
    assert found.busy == ["a" * 16], "and told"


# --- hostile and damaged stores ---------------------------------------------------------------------


def _with_column(root: Path, **columns: list[object]) -> None:
    path = root / "trials.parquet"
    table = pq.read_table(path)
    for name, values in columns.items():
        if name in table.column_names:
            table = table.drop_columns([name])
        table = table.append_column(name, pa.array(values))
    pq.write_table(table.replace_schema_metadata({b"gridrun.format": b"1"}), path)


def _link(root: Path, name: str) -> None:
    target = root / name
    moved = target.rename(root.parent / f"moved-{target.name}")
    target.symlink_to(moved)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "an id that leads out": (lambda r: _with_column(r, trial_id=["../../../x"]), "no trial id"),
    "numbers for another trial": (lambda r: _with_column(r, seed=[7]), "not that of its config and seed"),
    "another config": (lambda r: _with_column(r, config_json=['{"lr": 9}']), "not the one that its id"),
    "no config": (lambda r: _with_column(r, config_json=["{" * 9000]), "cannot be read"),
    "an option of two lines": (lambda r: _with_column(r, **{"x\n\x1b[2J": [1]}), "is no option"),
    "a part of an option that is no name": (lambda r: _with_column(r, **{"model.x\ny": [1]}), "is no option"),
    "an option of 200 letters": (lambda r: _with_column(r, **{"x" * 200: [1]}), "is no option"),
    "bytes for an option": (lambda r: _with_column(r, lr=[b"\xff"]), "not a trial record|trial"),
    "no status of ours": (lambda r: _with_column(r, status=["excellent"]), "has no status"),
    "cut short": (lambda r: (r / "epochs.parquet").write_bytes(b"PAR1"), "is damaged"),
    "of another program": (
        lambda r: pq.write_table(pa.table({"a": [1]}), r / "trials.parquet"),
        "written by",
    ),
    "a linked file": (lambda r: _link(r, "trials.parquet"), "is a link"),
    "a linked directory": (lambda r: _link(r, ".work/ended"), "is a link"),
    "a pipe": (lambda r: ((r / "epochs.parquet").unlink(), os.mkfifo(r / "epochs.parquet")), "a device"),
    "a pending record of another": (
        lambda r: (r / ".work" / "ended" / f"{'b' * 16}.json").write_text(record(5).to_json()),
        "another trial",
    ),
    "a lineage of another search": (
        lambda r: Store(r).write_lineage("b" * 16, [lineage_row(1, 0.1)]),
        "not the lineage of that search",
    ),
    "one id of a lineage that leads out": (
        lambda r: Store(r).write_lineage("a" * 16, [replace(lineage_row(1, 0.1), parent_id="../../../x")]),
        "not the lineage of that search",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_damaged_store_is_refused_whole(name: str, tmp_path: Path) -> None:
    spoil, message = HOSTILE[name]
    theirs = store_of(tmp_path / "theirs", record(1))
    theirs.compact(now=True)
    spoil(theirs.root)
    ours = store_of(tmp_path / "ours", record(4))
    before = ours.rows()
    with pytest.raises(StoreError, match=message):
        open_source(Store(theirs.root))
    done = gridrun(store_of(tmp_path / "good", record(2)).root, theirs.root, "--results", ours.root)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "\x1b" not in done.stderr
    assert "Traceback" not in done.stderr
    assert ours.rows() == before, "all are read before anything is written"


def test_notes_come_along_once(tmp_path: Path) -> None:
    ours, theirs = store_of(tmp_path / "ours"), store_of(tmp_path / "theirs", record(1))
    theirs.notes.add(Note(about=record(1).trial_id, text="the fan was broken", at="2026-01-01", by="ann"))
    assert [found.notes for found in (*merged(ours, theirs), *merged(ours, theirs))] == [1, 0]
    assert ours.notes.read() == theirs.notes.read()


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    ours = store_of(tmp_path / "ours")
    (tmp_path / "empty").mkdir()
    for other, message in (
        ("nothing", "no such results"),
        ("empty", "holds no results"),
        ("ours", "merge into"),
    ):
        done = gridrun(tmp_path / other, "--results", ours.root)
        assert done.exit_code == 2
        assert message in done.stderr


def test_old_stores_have_fewer_columns(tmp_path: Path) -> None:
    theirs = store_of(tmp_path / "theirs", record(1))
    theirs.compact(now=True)
    path = theirs.root / "trials.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["top5_error", "tag", "macs", "num_params"]), path)
    (found,) = merged(store_of(tmp_path / "ours"), theirs)
    assert found.added == [record(1).trial_id]


# --- others at work ---------------------------------------------------------------------------------


def _launch(root: Path, first: int, count: int) -> None:
    """Add results as a launch does, with failures before some."""
    store = Store(root)
    for number in range(first, first + count):
        if number % 3 == 0:
            store.add(record(number, status="failed", attempts=1))
        store.add(replace(record(number), ended_at="2026-01-01T00:00:09.000+00:00"))
        store.compact()


def test_a_record_may_be_compacted_while_its_store_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = store_of(tmp_path / "theirs", record(1))
    lstat = Path.lstat

    def late(path: Path) -> os.stat_result:
        if path.parent.name == "ended":
            theirs.compact(now=True)
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", late)
    (found,) = merged(store_of(tmp_path / "ours"), theirs)
    assert found.added == [record(1).trial_id]


class Racing(Store):
    """A store in which a launch ends trial 1 after a merge has looked, and before it writes."""

    def locks(self, names: Collection[str]):  # type: ignore[no-untyped-def]
        self.add(record(1))
        return super().locks(names)

    def insert(self, records: Collection[Record]) -> list[str]:
        self.add(record(1))
        return super().insert(records)


def test_a_result_that_was_forgotten_here_does_not_come_back_but_another_does(tmp_path: Path) -> None:
    """It is being trained anew; a copy of the old result would take the place of the new one."""
    ours, theirs = (store_of(tmp_path / name, record(1), record(2)) for name in ("ours", "theirs"))
    ours.forget([record(1).trial_id])
    (found,) = merged(ours, theirs)
    assert (found.added, found.behind, found.equal) == ([], 1, 1)
    assert list(ours.statuses()) == [record(2).trial_id]
    later = store_of(tmp_path / "later", replace(record(1), ended_at="2026-01-01T00:00:09.000+00:00"))
    (found,) = merged(ours, later)
    assert found.added == [record(1).trial_id]


@pytest.mark.parametrize("checkpoint", [None, "last"])
def test_what_a_launch_trains_meanwhile_stays(checkpoint: str | None, tmp_path: Path) -> None:
    ours = Racing(tmp_path / "ours")
    theirs = store_of(tmp_path / "theirs", record(1, 0.2, checkpoint=checkpoint), record(2))
    (found,) = merged(ours, theirs)
    assert (found.added, found.behind, found.weights) == ([record(2).trial_id], 1, 0)
    assert ours.records()[record(1).trial_id].test_error == 0.1


def test_two_launches_write_into_stores_that_are_being_merged(tmp_path: Path) -> None:
    stores = [store_of(tmp_path / name) for name in ("a", "b")]
    context = multiprocessing.get_context("fork")
    launches = [
        context.Process(target=_launch, args=(store.root, first, 20))
        for store, first in zip(stores, (1, 11), strict=True)  # 11 to 20 run in both
    ]
    for launch in launches:
        launch.start()
    rounds = 0
    while any(launch.is_alive() for launch in launches) or rounds < 2:
        found = [*merged(stores[0], stores[1]), *merged(stores[1], stores[0])]
        assert not any(each.has_conflicts for each in found)
        rounds += 1
    for launch in launches:
        launch.join()
        assert launch.exitcode == 0
    assert not any(each.has_conflicts for each in (*merged(*stores), *merged(*stores[::-1])))
    expected = {record(number).trial_id: ("done", 0.1, [0.2, 0.1]) for number in range(1, 31)}
    for store in stores:
        store.compact(now=True)
        assert numbers(Store(store.root)) == expected
        assert len(pq.read_table(store.trials_path)) == 30
        assert len(pq.read_table(store.epochs_path)) == 60
