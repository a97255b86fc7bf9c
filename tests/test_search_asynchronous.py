"""Searches in which no member waits for the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import cli
from gridrun.errors import LaunchError, StoreError
from gridrun.executors.serial import SerialExecutor
from gridrun.grid import load_grid
from gridrun.search import read_progress
from gridrun.search.asynchronous import Asynchronous
from gridrun.search.run import search
from gridrun.search.segments import Segment
from gridrun.store import Store
from gridrun.store.records import Record
from gridrun.sweep.options import LaunchOptions
from gridrun.sweep.worker import identity_of
from gridrun.text import utc_now
from trainer import Runtime

SEARCH = """
title: A small search
base:
  dataset: digits
  model: {name: resnet_preact, depth: 8, initial_channels: 4}
  train_size: 64
  val_ratio: 0.05
  batch_size: 32
  epochs: 3
search: {population: 4, interval: 1, seed: 3, asynchronous: true}
"""


class FakeStore:
    """Errors of trials, and a lineage, in place of a store."""

    def __init__(self) -> None:
        self.errors: dict[str, float | None] = {}
        self.rows_of_lineage: list[Any] = []

    def lineage(self, search_id: str) -> list[Any]:
        return self.rows_of_lineage

    def rows(self, wanted: set[str], columns: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
        found = {trial_id: self.errors[trial_id] for trial_id in wanted if trial_id in self.errors}
        status = {False: "done", True: "diverged"}
        return {t: {"status": status[error is None], "test_error": error} for t, error in found.items()}


@pytest.fixture
def file(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRIDRUN_CACHE", str(cache_dir))
    monkeypatch.setenv("GRIDRUN_RESULTS", str(tmp_path / "results"))
    path = tmp_path / "small.yaml"
    path.write_text(SEARCH)
    return path


@pytest.fixture
def store() -> Any:
    return FakeStore()


def progress(file: Path, store: Any) -> Asynchronous:
    found = read_progress(load_grid(file), store)
    assert isinstance(found, Asynchronous)
    return found


def end(found: Asynchronous, store: Any, member: int, error: float | None) -> list[Segment]:
    """End a member's current segment; return what is decided."""
    store.errors[found.current[member].trial.trial_id] = error
    return found.update(store)


def test_a_member_goes_on_while_others_train(file: Path, store: Any) -> None:
    found = progress(file, store)
    (next_one,) = end(found, store, 2, 0.5)
    assert (next_one.member, next_one.round, next_one.donor) == (2, 2, None)
    assert [segment.round for segment in found.current] == [1, 1, 2, 1]


def test_the_worst_so_far_goes_on_from_the_best_so_far(file: Path, store: Any) -> None:
    found = progress(file, store)
    end(found, store, 2, 0.5)
    end(found, store, 2, 0.3)
    (taken,) = end(found, store, 0, 0.6)  # of two, it is the worse
    donor = found.segments[4]
    assert (taken.member, taken.donor, taken.round) == (0, 2, 3)  # it jumps to the donor's epoch
    assert taken.parent == donor.trial.trial_id
    assert taken.trial.seed == donor.trial.seed
    assert taken.schedule[0] == (2, donor.policy)
    assert taken.policy != donor.policy


def test_one_that_has_diverged_waits_for_a_donor(file: Path, store: Any) -> None:
    found = progress(file, store)
    assert end(found, store, 1, None) == []
    first, second = end(found, store, 3, 0.4)
    assert {(s.member, s.donor) for s in (first, second)} == {(1, 3), (3, None)}


def test_all_diverged_is_an_error(file: Path, store: Any) -> None:
    found = progress(file, store)
    for member in range(3):
        end(found, store, member, None)
    with pytest.raises(LaunchError, match="every member of the search small has diverged"):
        end(found, store, 3, None)


def test_members_at_the_end_are_no_donors(file: Path, store: Any) -> None:
    found = progress(file, store)
    for error in (0.5, 0.4, 0.3):
        end(found, store, 0, error)
    assert [segment.member for segment in found.ended] == [0]
    (next_one,) = end(found, store, 1, 0.9)
    assert (next_one.donor, next_one.round) == (None, 2)
    assert not found.is_over


def test_the_lineage_says_how_it_goes_on(file: Path, store: Any) -> None:
    found = progress(file, store)
    for member, error in ((2, 0.5), (0, 0.6), (2, 0.3), (3, 0.7), (1, None), (0, 0.2)):
        end(found, store, member, error)
    store.rows_of_lineage = found.lineage()
    again = progress(file, store)
    assert again.segments == found.segments
    assert again.current == found.current
    assert again.needed == found.needed
    assert end(again, store, 3, 0.1) == end(found, store, 3, 0.1)


def test_who_comes_after_another_process_goes_on_from_its_lineage(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_in_store(member: int) -> None:
        trial = first.current[member].trial
        store.add(Record(**identity_of(trial), status="done", test_error=member / 10, ended_at=utc_now()))
        first.update(store)
        store.write_lineage(first.search.search_id, first.lineage())

    def stop(*_: object) -> None:
        raise LaunchError("it was about to train")

    store = Store(tmp_path / "results")
    store.create()
    first = progress(file, store)
    end_in_store(2)
    late = progress(file, store)
    for member in (0, 1, 3, 2):
        end_in_store(member)
    monkeypatch.setattr("gridrun.search.run.launch", stop)
    options = LaunchOptions(runtime=Runtime())
    with pytest.raises(LaunchError, match="about to train"):
        search(late, store, SerialExecutor(gpus=0), options, lambda event: None)
    assert store.lineage(first.search.search_id) == first.lineage()
    assert late.current == first.current


def test_a_lineage_that_does_not_follow_is_refused(file: Path, store: Any) -> None:
    found = progress(file, store)
    end(found, store, 2, 0.5)
    *rows, last = found.lineage()
    store.rows_of_lineage = [*rows, last.__class__(**{**_fields(last), "policy": "Rotate 1 9", "donor": 1})]
    with pytest.raises(StoreError, match="row 5 does not follow from those before it"):
        progress(file, store)


def _fields(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


def test_the_id_of_a_search_in_rounds_is_as_before(file: Path) -> None:
    asynchronous = load_grid(file).search
    file.write_text(SEARCH.replace(", asynchronous: true", ""))
    plain = load_grid(file).search
    file.write_text(SEARCH.replace("asynchronous: true", "asynchronous: false"))
    same = load_grid(file).search
    assert plain
    assert same
    assert asynchronous
    assert plain.search_id == same.search_id != asynchronous.search_id


class TestWhole:
    @pytest.fixture
    def run(self, file: Path) -> Any:
        def search(*args: object) -> Any:
            given = ["search", file, "--executor", "serial", *args]
            return CliRunner().invoke(cli.main, [str(arg) for arg in given])

        return search

    def test_it_goes_on_and_repeats_nothing(self, run: Any, file: Path, tmp_path: Path) -> None:
        original, store = Asynchronous.update, Store(tmp_path / "results")

        def killed(self: Asynchronous, store: Store) -> list[Segment]:
            decided = original(self, store)
            if len(self.errors) == 5:
                raise KeyboardInterrupt
            return decided

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Asynchronous, "update", killed)
            assert run().exit_code != 0
        before = {trial_id: row["ended_at"] for trial_id, row in store.rows(_ids(file, store)).items()}
        result = run("--keep-checkpoint", "last")
        assert result.exit_code == 0, result.output
        found = progress(file, store)
        assert found.is_over
        assert len(before) == 5
        after = store.rows(set(found.errors))
        assert {trial_id: after[trial_id]["ended_at"] for trial_id in before} == before
        lineage = store.lineage(found.search.search_id)
        assert [row.trial_id for row in lineage] == [segment.trial.trial_id for segment in found.segments]
        assert not any(store.checkpoint(trial_id).exists() for trial_id in found.errors)
        kept = {trial_id for trial_id in found.errors if store.weights_path(trial_id).exists()}
        assert kept == {segment.trial.trial_id for segment in found.current}

    def test_only_one_process_may_run_it(self, run: Any, file: Path, tmp_path: Path) -> None:
        store = Store(tmp_path / "results")
        store.create()
        search = load_grid(file).search
        assert search
        with store.lock(search.search_id) as claim:
            assert claim
            result = run()
        assert result.exit_code == 2
        assert "another process runs this search" in result.output


def _ids(file: Path, store: Store) -> set[str]:
    return set(progress(file, store).errors)
