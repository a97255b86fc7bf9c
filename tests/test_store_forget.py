"""Taking trials out of a store and training them anew: nothing is lost, and no running trial is touched."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from by_hand import record
from click.testing import CliRunner, Result

from cli import main
from gridrun.errors import StoreError
from gridrun.grid import Row, load_grid
from gridrun.store import Store, parquet
from gridrun.store.records import Provenance, Record
from gridrun.sweep import provenance
from trainer.metrics import Epoch
from trainer.sources import sources

GRID = """\
base: {model: {name: resnet_preact, depth: 8, initial_channels: 4}, dataset: digits, train_size: 32,
       batch_size: 32, epochs: 1}
axes: {lr: [0.1, 0.2]}
seeds: 2
"""
EPOCH = Epoch(epoch=1, lr=0.1, train_loss=1.0, train_error=0.5, test_loss=1, test_error=0.25, train_seconds=3)


@pytest.fixture
def store(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRIDRUN_CACHE", str(cache_dir))
    monkeypatch.delenv("GRIDRUN_RESULTS", raising=False)
    Path("g.yaml").write_text(GRID)
    store = Store("results")
    store.create()
    return store


def rows() -> tuple[Row, ...]:
    return load_grid("g.yaml").rows


def done(row: Row, seed: int, text: str | None = None) -> Record:
    one = record(row, seed, test_error=0.25)
    return replace(
        one,
        config=row.config.flat(),
        config_json=json.dumps(row.config.canonical()),
        provenance=Provenance(sources=text),
        epochs=(EPOCH,),
    )


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("compacted", [False, True])
def test_a_forgotten_record_is_kept_whole_and_can_be_put_back(store: Store, compacted: bool) -> None:
    row, other = rows()
    for each in (row, other):
        store.add(done(each, 0))
    if compacted:
        store.compact(now=True)
    store.weights_path(row.trial_ids[0]).parent.mkdir(exist_ok=True)
    store.weights_path(row.trial_ids[0]).write_bytes(b"weights")
    before = store.records(), store.epochs([row.trial_ids[0]])
    shown = run("forget", row.trial_ids[0][:8])
    assert shown.exit_code == 0, shown.output
    assert "test error 25.00 %; kept in forgotten/" in shown.output
    assert store.statuses() == {other.trial_ids[0]: "done"}
    assert store.epochs([row.trial_ids[0]]) == {}
    (kept,) = Path("results/forgotten").glob("*.json")
    assert kept.with_suffix(".pt").read_bytes() == b"weights"
    assert not store.weights_path(row.trial_ids[0]).exists()
    assert Record.from_json(kept.read_text()).epochs == (EPOCH,)
    shutil.copy(kept, f"results/.work/ended/{row.trial_ids[0]}.json")
    store.compact(now=True)
    assert (store.records(), store.epochs([row.trial_ids[0]])) == before


def test_what_lies_among_forgotten_records_and_is_none_is_left_out(store: Store) -> None:
    kept = record(load_grid("g.yaml").rows[0], 0)
    store.add(replace(kept, ended_at="9" * 300))  # too long for the name of a file
    (path,) = store.forget([kept.trial_id])
    os.mkfifo(path.with_name("pipe.json"))  # whoever reads it would wait for ever
    path.with_name("zero.json").symlink_to("/dev/zero")
    path.with_name("deep.json").write_text("[" * 100_000)
    assert [each.trial_id for each in store.forgotten()] == [kept.trial_id]


def test_a_trial_that_is_being_trained_is_not_forgotten(store: Store) -> None:
    row, _ = rows()
    store.add(done(row, 0))
    store.add(done(row, 1))
    with Store("results").lock(row.trial_ids[1]), pytest.raises(StoreError, match="is being trained"):
        store.forget(row.trial_ids)
    assert set(store.statuses()) == set(row.trial_ids)
    assert not Path("results/forgotten").exists()
    assert store.forget(row.trial_ids)
    assert not store.statuses()


def test_a_kill_while_trials_are_taken_out_lets_no_old_copy_come_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trial_id, _), append = rows()[0].trial_ids, parquet.append
    store.add(done(rows()[0], 0))
    store.compact(now=True)

    def killed(path: Path, *rest: Any) -> None:
        if path == store.epochs_path:
            raise KeyboardInterrupt
        append(path, *rest)

    monkeypatch.setattr(parquet, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        store.forget([trial_id])
    assert not store.statuses(), "it was killed after this"
    removed: list[str] = []
    store.drop_old_copies([trial_id], removed.append)
    assert removed == [trial_id]


def planned(*arguments: object) -> set[str]:
    shown = run("launch", "g.yaml", "--dry-run", *arguments)
    assert shown.exit_code == 0, shown.output
    every = [trial_id for row in rows() for trial_id in row.trial_ids]
    return {trial_id for trial_id in every if trial_id in shown.output}


def test_again_takes_ids_rows_and_sources(store: Store) -> None:
    row, other = rows()
    now = sources(row.config)
    old = json.dumps({**now, "trainer/models/resnet_preact": "0" * 12})
    texts = iter((json.dumps(now), old, None, json.dumps(now)))
    for each in (row, other):
        for seed in (0, 1):
            store.add(done(each, seed, next(texts)))
    assert planned() == set()
    assert planned("--again", row.trial_ids[1][:8]) == {row.trial_ids[1]}
    assert planned("--again", other.config_id) == set(other.trial_ids)
    assert planned("--again", "all", "--where", "lr=0.2") & set(row.trial_ids) == set()
    by_source = {row.trial_ids[1], other.trial_ids[0]}
    for path in ("trainer/models/resnet_preact", "trainer/models/resnet_preact/network.py"):
        assert planned("--again", path) == by_source
    wrong = run("launch", "g.yaml", "--dry-run", "--again", "trainer/models/resnet_preac")
    assert wrong.exit_code == 2
    assert "Did you mean 'trainer/models/resnet_preact'?" in wrong.output
    assert run("launch", "g.yaml", "--dry-run", "--again", "0").exit_code == 2
    assert len(store.statuses()) == 4, "a dry run forgets nothing"


def test_launch_again_trains_what_was_done_and_keeps_the_old_record(store: Store) -> None:
    row, other = rows()
    for each in (row, other):
        for seed in (0, 1):
            store.add(done(each, seed))
    options = ("--executor", "serial", "--gpus", 0)
    shown = run("launch", "g.yaml", *options, "--again", row.trial_ids[0])
    assert shown.exit_code == 0, shown.output
    (kept,) = Path("results/forgotten").glob("*.json")
    assert kept.name.startswith(row.trial_ids[0])
    found = store.records()
    assert len(found) == 4
    assert found[row.trial_ids[0]].train_seconds != found[row.trial_ids[1]].train_seconds
    assert found[row.trial_ids[0]].provenance.sources
    assert found[row.trial_ids[1]].provenance.sources is None


def test_the_same_command_resumes_a_launch_again_that_was_stopped(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took all trials out, and trained three of four anew."""
    every = [(row, seed) for row in rows() for seed in (0, 1)]
    for row, seed in every:
        store.add(done(row, seed))
    ids = [row.trial_ids[seed] for row, seed in every]
    assert planned("--again", "all") == set(ids)
    store.forget(ids)
    assert planned("--again", "all") == set(ids)
    code = replace(provenance.of_code(), commit="a" * 40, dirty=False)
    monkeypatch.setattr(provenance, "of_code", lambda: code)
    today = replace(code, sources=json.dumps(sources(every[0][0].config)))
    for (row, seed), commit in zip(every[:3], (today.commit, today.commit, "0" * 40), strict=True):
        store.add(replace(done(row, seed), provenance=replace(today, commit=commit)))
    assert planned("--again", "all") == set(ids[2:]), "the third was trained by other code"
    monkeypatch.setattr(provenance, "of_code", lambda: replace(code, dirty=True))
    assert planned("--again", "all") == set(ids), "nothing tells this code from that of the records"
    monkeypatch.setattr(provenance, "of_code", lambda: code)
    assert "had trained 2 trials anew" in run("launch", "g.yaml", "--dry-run", "--again", "all").stderr
    assert planned("--again", ids[0]) == {ids[0], ids[3]}, "nothing of this trial is left to be trained"
    store.add(replace(done(*every[3]), provenance=today))
    assert planned("--again", "all") == set(ids), "that launch is over"


@pytest.mark.parametrize("how", ["forget", "again"])
def test_what_is_trained_anew_does_not_go_on_from_a_copy_elsewhere(
    store: Store, tmp_path: Path, how: str
) -> None:
    """A trial failed and left its checkpoint at `--checkpoints`, from code that is another one today."""
    (trial,) = rows()[0].trials[:1]
    place = tmp_path / "copies"
    place.mkdir()
    others = [place / f"{rows()[1].trials[0].trial_id}.pt", place / "notes.txt"]
    own = [place / f"{trial.trial_id}.pt", place / f"{trial.trial_id}.pt.0123.partial"]
    for path in (*others, *own):
        path.write_bytes(b"damaged, so that a trial that goes on from it has a note")
    store.add(record(rows()[0], trial.seed, "failed", failure="exception", error="broken", test_error=None))
    launch = ["launch", "g.yaml", "--executor", "serial", "--only", trial.trial_id, "--checkpoints", place]
    if how == "forget":
        assert run("forget", trial.trial_id).exit_code == 0
        assert all(path.exists() for path in own), "forget does not know the place"
    else:
        launch += ["--again", trial.trial_id]
    assert run(*launch).exit_code == 0
    row = store.rows()[trial.trial_id]
    assert (row["status"], row["resumes"], row["notes"]) == ("done", 0, None)
    assert sorted(place.iterdir()) == sorted(others), "the copies of others stay"
    assert not list((store.root / ".work" / "anew").iterdir())
