"""The store: what is added is there, once, whatever happens to whoever adds it."""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forks import CONTEXT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridrun.errors import StoreError
from gridrun.store import Store
from gridrun.store.launches import EndedTrial, LaunchState, Running
from gridrun.store.records import Provenance, Record
from trainer.metrics import Epoch

STATUSES = ("done", "diverged", "failed")


def record(number: int, status: str = "done", at: int = 0, epochs: int = 2, **options: object) -> Record:
    curve = [
        Epoch(
            epoch=i + 1,
            lr=0.1,
            train_loss=1.0 / (i + 1),
            train_error=0.5,
            test_loss=None,
            test_error=0.5,
            train_seconds=1.0,
        )
        for i in range(epochs)
    ]
    return Record(
        trial_id=f"{number:016x}",
        config_id=f"{number:016x}",
        seed=0,
        status=status,  # type: ignore[arg-type]
        config={"lr": 0.1, "model": "resnet", **options},
        config_json="{}",
        ended_at=f"2026-01-01T00:00:{at:02d}.000+00:00",
        test_error=number / 1000,
        epochs=tuple(curve),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    store.create()
    return store


def test_an_absent_store_is_empty(tmp_path: Path) -> None:
    store = Store(tmp_path / "nothing")
    assert store.statuses() == store.rows() == {}
    assert store.launches.running() == []
    assert not store.root.exists()


@pytest.mark.parametrize("compacted", [False, True])
def test_a_record_comes_back_whole(store: Store, compacted: bool) -> None:
    one = record(1, depth=20, widths=[1, 2])
    store.add(one)
    if compacted:
        store.compact(now=True)
        assert not list(store.root.glob(".work/ended/*"))
    assert store.rows() == {one.trial_id: one.row()}
    assert store.epochs([one.trial_id]) == {one.trial_id: one.epoch_rows()}
    assert store.statuses() == {one.trial_id: "done"}


def test_pandas_reads_it_with_every_option_a_column(store: Store) -> None:
    store.add(record(1, depth=20))
    store.add(record(2, width=4))
    store.compact(now=True)
    trials = pd.read_parquet(store.root / "trials.parquet").set_index("trial_id")
    assert trials["depth"].tolist()[0] == 20
    assert pd.isna(trials["depth"].iloc[1])
    assert {"lr", "model", "width", "commit", "gpu", "test_error", "train_seconds"} <= set(trials.columns)
    epochs = pd.read_parquet(store.root / "epochs.parquet")
    assert len(epochs) == 4


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 1), st.sampled_from(STATUSES), st.integers(0, 59)),
            st.just("compact"),
            st.just("open"),
        ),
        max_size=15,
    )
)
def test_done_stays_done_and_else_what_was_added_last_counts(
    tmp_path_factory: pytest.TempPathFactory, steps: list[object]
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    store.create()
    expected: dict[str, Record] = {}
    for step in steps:
        if step == "compact":
            store.compact(now=True)
        elif step == "open":
            store = Store(store.root)
        else:
            number, status, at = step  # type: ignore[misc]
            new = record(number, status, at)
            store.add(new)
            old = expected.get(new.trial_id)
            # these failures are first attempts, so no retries of a diverged end
            stays = old and (old.status == "done" or (old.status, status) == ("diverged", "failed"))
            if not old or not stays:
                expected[new.trial_id] = new
    assert store.statuses() == {trial_id: r.status for trial_id, r in expected.items()}
    assert {i: row["ended_at"] for i, row in store.rows().items()} == {
        i: r.ended_at for i, r in expected.items()
    }
    store.compact(now=True)
    assert Store(store.root).statuses() == {trial_id: r.status for trial_id, r in expected.items()}
    epochs = pq.read_table(store.epochs_path).num_rows if expected else 0
    assert epochs == sum(len(r.epochs) for r in expected.values())


def test_options_of_one_name_and_different_types_share_a_column(store: Store) -> None:
    for number, value in enumerate([3, "three", [3, 4], None]):
        store.add(record(number, width=value))
        store.compact(now=True)
    widths = pd.read_parquet(store.trials_path).set_index("trial_id")["width"].tolist()
    assert widths[:3] == ["3", "three", "[3, 4]"]
    assert pd.isna(widths[3])


def test_whole_and_broken_numbers_share_a_column(store: Store) -> None:
    for number, value in enumerate([1, 0.5]):
        store.add(record(number, width=value))
        store.compact(now=True)
    assert pd.read_parquet(store.trials_path)["width"].tolist() == [1.0, 0.5]


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing", None])
def test_a_foreign_or_damaged_file_is_named_and_left_alone(store: Store, content: bytes | None) -> None:
    if content is None:
        pq.write_table(pa.table({"trial_id": ["x"]}), store.trials_path)
    else:
        store.trials_path.write_bytes(content)
    before = store.trials_path.read_bytes()
    store.add(record(1))
    for use in (store.rows, lambda: store.compact(now=True), store.statuses):
        with pytest.raises(StoreError, match=r"trials\.parquet: (is damaged|was not written by gridrun)"):
            use()
    assert store.trials_path.read_bytes() == before
    assert list(store.root.glob(".work/ended/*.json"))  # nothing lost


@pytest.mark.parametrize("text", ['{"half": ', record(1).to_json().replace("0.001", "Infinity")])
def test_a_damaged_record_is_named(store: Store, text: str) -> None:
    (store.root / ".work/ended/00000000000000aa.json").write_text(text)
    with pytest.raises(StoreError, match=r"00000000000000aa\.json: not a trial record"):
        store.rows()


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 16, "0" * 15, "0" * 16 + "\n"])
def test_no_id_names_a_file_elsewhere(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="is not a trial id"):
        store.checkpoint(name)


class Killed(Exception):
    """Stands for a kill, where the process must live on to look."""


def test_a_checkpoint_is_there_until_all_that_belongs_to_it_is_gone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.checkpoint("0" * 16)
    names = {path.name, f"{path.name}.epoch", f".{path.name}-x.partial"}
    for removals in range(len(names)):
        for name in names:
            (path.parent / name).touch()
        with monkeypatch.context() as patched:
            _end_after(removals, patched)
            with pytest.raises(Killed):
                store.drop_checkpoint("0" * 16)
        assert path.exists(), f"after {removals} removals nobody sees that others are to come"
    store.drop_checkpoint("0" * 16)
    assert not list(path.parent.iterdir())
    _end_after(0, monkeypatch)
    store.drop_checkpoint("0" * 16)  # touches nothing: a read-only disk refuses even what is not there


def _end_after(removals: int, patched: pytest.MonkeyPatch) -> None:
    """End the process, as it were, when it removes a file after so many others."""
    unlink, left = Path.unlink, [None] * removals

    def counted(path: Path, missing_ok: bool = False) -> None:
        if not left:
            raise Killed
        left.pop()
        unlink(path, missing_ok=missing_ok)

    patched.setattr(Path, "unlink", counted)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written to"):
        Store(tmp_path / "file").create()


def test_a_lock_is_one_process_at_a_time_and_leaves_no_file(store: Store) -> None:
    with store.lock("x") as first, store.lock("x") as second:
        assert first
        assert not second
    with store.lock("x") as again:
        assert again
    assert not list(store.root.glob(".work/leases/*"))


def _add_forever(root: Path, worker: int) -> None:
    store = Store(root)
    rng = random.Random(worker)
    for number in range(10**6):
        store.add(record(worker * 10**6 + number, epochs=1))
        if rng.random() < 0.2:
            store.compact(now=True)


def test_kills_and_readers_see_whole_files_and_lose_nothing(store: Store) -> None:
    """Writers compacting over each other are killed at random moments while a reader polls."""
    rng = random.Random(0)
    seen: set[str] = set()
    for round_ in range(4):
        writers = [
            CONTEXT.Process(target=_add_forever, args=(store.root, 2 * round_ + i + 1)) for i in range(2)
        ]
        for writer in writers:
            writer.start()
        known = len(seen)
        deadline = time.monotonic() + 60
        until: float | None = None
        while until is None or time.monotonic() < until:
            assert time.monotonic() < deadline
            now = set(Store(store.root).statuses())
            assert seen <= now, "a record that was there is gone"
            seen = now
            if store.trials_path.exists():
                pd.read_parquet(store.trials_path)  # by name, as anybody would
            if until is None and len(seen) > known:
                until = time.monotonic() + rng.uniform(0.05, 0.6)
        for writer in writers:
            assert writer.pid
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
        store.compact(now=True)
        table = pd.read_parquet(store.trials_path)
        assert table["trial_id"].is_unique
        assert seen <= set(table["trial_id"])
        epochs = pd.read_parquet(store.epochs_path)
        assert sorted(epochs["trial_id"]) == sorted(table["trial_id"])
    assert len(seen) > 4
    assert not list(store.root.glob(".work/ended/*.json"))


def test_launches_are_listed_while_they_give_signs_of_life(store: Store) -> None:
    state = LaunchState(
        started_at="2026-01-01T00:00:00+00:00",
        total=2,
        running=(Running(trial_id="b" * 16, about="a trial", epochs=3),),
        last=(EndedTrial(trial_id="c" * 16, about="another", outcome="done", test_error=0.1),),
    )
    store.launches.write("a" * 16, state)
    assert store.launches.running() == [state]
    path = store.root / ".work/launches" / ("a" * 16 + ".json")
    os.utime(path, (time.time() - 60, time.time() - 60))
    assert store.launches.running() == []
    store.launches.end("a" * 16)
    assert not path.exists()


def test_a_clock_that_is_set_back_shows_no_dead_launch_and_one_set_forward_takes_no_word_back(
    store: Store,
) -> None:
    dead = store.root / ".work/launches" / ("a" * 16 + ".json")
    store.launches.write(dead.stem, LaunchState(started_at="2026-01-01T00:00:00+00:00", total=2))
    os.utime(dead, (time.time() + 3600,) * 2)
    assert store.launches.running() == []
    word = [store.launches.stop_path("b" * 16), store.launches.stop_path("b" * 16).with_suffix(".drain")]
    for path in word:
        path.touch()
        os.utime(path, (time.time() - 7200,) * 2)
    store.launches.end("c" * 16)
    assert all(path.exists() for path in word)
    for path in word:
        os.utime(path, (time.time() - 3 * 24 * 3600,) * 2)
    store.launches.end("c" * 16)
    assert not any(path.exists() for path in word)


def test_done_wins_whatever_the_clocks_say(store: Store) -> None:
    store.add(record(1, "failed", at=50))
    store.compact(now=True)
    store.add(record(1, "done", at=10))
    store.add(record(1, "failed", at=59))
    assert store.statuses() == {record(1).trial_id: "done"}
    store.compact(now=True)
    assert store.statuses() == {record(1).trial_id: "done"}


def test_a_foreign_partial_file_is_left_alone(store: Store) -> None:
    theirs = store.root / ".thesis.pdf.partial"
    theirs.write_text("chapter one")
    store.add(record(1))
    store.compact(now=True)
    assert theirs.read_text() == "chapter one"


@pytest.mark.parametrize(
    "state",
    [
        "[]",
        "{}",
        "null",
        "not json",
        '{"started_at": "", "total": 1, "running": [{"trial_id": "a"}], "last": [], "failures": []}',
        '{"started_at": "", "total": "1", "running": [], "last": [], "failures": []}',
        '{"started_at": [], "total": 1, "running": [], "last": [], "failures": []}',
    ],
)
def test_a_launch_that_makes_no_sense_is_not_listed(store: Store, state: str) -> None:
    (store.root / ".work/launches/x.json").write_text(state)
    assert store.launches.running() == []


def test_epochs_that_are_something_else_are_named(store: Store) -> None:
    store.add(record(1))
    store.compact(now=True)
    store.epochs_path.write_bytes(store.trials_path.read_bytes())
    with pytest.raises(StoreError, match=r"epochs\.parquet: has no column 'epoch'"):
        store.epochs([record(1).trial_id])


def test_a_damaged_epochs_file_is_noticed_before_anything_is_trained(store: Store) -> None:
    store.epochs_path.write_text("PAR1")
    with pytest.raises(StoreError, match=r"epochs\.parquet: is damaged"):
        store.create()


@pytest.mark.parametrize("where", ["pending", "stored"])
def test_records_are_the_rows_with_types(store: Store, where: str) -> None:
    kept = [
        replace(record(1), provenance=Provenance(gpu="NVIDIA H200", gpu_share=0.5), notes="moved"),
        record(2, "failed", dropout=0.5),
    ]
    for one in kept:
        store.add(one)
    if where == "stored":
        store.compact(now=True)
    assert store.records() == {one.trial_id: replace(one, epochs=()) for one in kept}
    assert store.records([kept[1].trial_id]).keys() == {kept[1].trial_id}
    few = store.records(columns=["gpu", "lr"])[kept[0].trial_id]
    assert (few.provenance.gpu, few.config["lr"], few.ended_at) == ("NVIDIA H200", 0.1, kept[0].ended_at)


@pytest.mark.parametrize("wrong", [None, math.nan, math.inf, -0.1, 1e300, "0.5", True])
def test_a_row_that_cannot_be_has_the_defaults_in_its_record(wrong: object) -> None:
    row = record(1).row() | {"test_error": wrong, "num_params": wrong, "attempts": wrong, "gpu_share": wrong}
    found = Record.from_row(row | {"commit": 5, "config_json": None, "dirty": "yes"})
    assert (found.test_error, found.num_params, found.attempts) == (None, None, 1)
    assert found.provenance == Provenance()
    assert (found.trial_id, found.config_json) == (record(1).trial_id, "")


def test_a_row_of_an_older_version_lacks_columns() -> None:
    found = Record.from_row({"trial_id": "0" * 16, "status": "done", "epochs_trained": 5.0, "epochs": 10})
    assert (found.epochs_trained, found.attempts, found.failure) == (5, 1, None)
    assert found.config == {"epochs": 10}


def test_a_stored_failure_without_attempts_was_the_first(store: Store) -> None:
    store.add(record(1, "failed", at=1))
    store.compact(now=True)
    table = pq.read_table(store.trials_path)
    pq.write_table(table.drop_columns(["attempts"]), store.trials_path)
    assert store.records()[record(1).trial_id].attempts == 1
    store.add(record(1, "failed", at=2))
    assert store.records()[record(1).trial_id].attempts == 2
    store.compact(now=True)
    assert pq.read_table(store.trials_path)["attempts"].to_pylist() == [2]


@pytest.mark.parametrize(("before", "attempts"), [(2, 5), (None, 4)])
def test_what_is_inserted_replaces_failures_alone_and_counts_their_attempts(
    store: Store, before: int | None, attempts: int
) -> None:
    store.add(record(1))
    store.add(replace(record(2, "failed"), attempts=before or 1))
    store.compact(now=True)
    if before is None:  # as by a version that did not count them
        table = pq.read_table(store.trials_path)
        pq.write_table(table.drop_columns(["attempts"]), store.trials_path)
    results = [replace(record(number, at=9), attempts=3) for number in (1, 2, 3)]
    assert store.insert(results) == [record(2).trial_id, record(3).trial_id]
    found = store.records().values()
    assert {each.trial_id: (each.ended_at, each.attempts) for each in found} == {
        record(1).trial_id: (record(1).ended_at, 1),
        record(2).trial_id: (record(2, at=9).ended_at, attempts),
        record(3).trial_id: (record(3, at=9).ended_at, 3),
    }


def test_an_insertion_waits_for_who_compacts(store: Store) -> None:
    with contextlib.ExitStack() as stack:
        assert stack.enter_context(Store(store.root).lock("compact"))
        threading.Timer(0.1, stack.pop_all().close).start()
        assert store.insert([record(1)]) == [record(1).trial_id]
    assert store.statuses() == {record(1).trial_id: "done"}


def test_files_of_a_version_without_top5_error_are_read_and_added_to(store: Store) -> None:
    old, new = record(1), record(2)
    store.add(old)
    store.compact(now=True)
    for path in (store.trials_path, store.epochs_path):
        pq.write_table(pq.read_table(path).drop_columns("top5_error"), path)
    assert store.records()[old.trial_id].top5_error is None
    assert [row["top5_error"] for row in store.epochs([old.trial_id])[old.trial_id]] == [None, None]
    epochs = tuple(replace(epoch, top5_error=0.25) for epoch in new.epochs)
    store.add(replace(new, top5_error=0.25, epochs=epochs))
    store.compact(now=True)
    found = store.records()
    assert (found[old.trial_id].top5_error, found[new.trial_id].top5_error) == (None, 0.25)
    rows = store.epochs([old.trial_id, new.trial_id])
    assert [row["top5_error"] for row in rows[old.trial_id] + rows[new.trial_id]] == [None, None, 0.25, 0.25]
