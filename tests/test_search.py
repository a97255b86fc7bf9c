"""Searches: read from a file, trained in this process, gone on with, shown."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import cli
from gridrun.errors import GridError, StoreError
from gridrun.grid import load_grid
from gridrun.grid.policy_schedules import read_schedule
from gridrun.grid.search import policy_of
from gridrun.plan import forecast_from, make_plan
from gridrun.resources import Capacity
from gridrun.search import Progress, read_progress
from gridrun.search import run as search_run
from gridrun.search.segments import first_round, next_round
from gridrun.store import Store
from gridrun.sweep.events import Progress as Epochs
from gridrun.sweep.events import Started
from gridrun.sweep.progress import Tracker
from gridrun.text import utc_now
from trainer.augmentations.policy.schedules import length, piece_at
from trainer.data.pipeline import Pipeline
from trainer.loop import Run
from trainer.metrics import Epoch

ROOT = Path(__file__).parent.parent
SEARCH = """
title: A small search
base:
  dataset: digits
  model: {name: resnet_preact, depth: 8, initial_channels: 4}
  augmentation: {random_crop: {padding: 1}}
  train_size: 64
  val_ratio: 0.05
  batch_size: 32
  epochs: 4
search: {population: 4, interval: 1, seed: 3}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """Return the results of the search, which keeps the weights of its last round."""
    home = tmp_path_factory.mktemp("finished")
    (home / "small.yaml").write_text(SEARCH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDRUN_CACHE", str(cache_dir))
        search(home / "small.yaml", "--results", home / "results", "--keep-checkpoint", "last")
    return home / "results"


@pytest.fixture
def done(finished: Path, store: Store) -> Store:
    """Return a store that has the whole search."""
    shutil.copytree(finished, store.root)
    return store


@pytest.fixture
def file(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRIDRUN_CACHE", str(cache_dir))
    monkeypatch.setenv("GRIDRUN_RESULTS", str(tmp_path / "results"))
    path = tmp_path / "small.yaml"
    path.write_text(SEARCH)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def run(*arguments: object, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(cli.main, list(map(str, arguments)))
    assert result.exit_code == exit_code, result.output
    return result


def search(file: Path, *options: object, exit_code: int = 0) -> Result:
    return run("search", file, "--executor", "serial", *options, exit_code=exit_code)


def progress(file: Path, store: Store, **overrides: Any) -> Progress:
    return read_progress(load_grid(file, overrides), store)


def figures(store: Store) -> dict[str, Any]:
    """Return what must not depend on lost states: the epochs of each trial."""
    epochs = store.epochs(store.statuses())
    for rows in epochs.values():
        for row in rows:
            del row["train_seconds"]
    return epochs


# --- the file ----------------------------------------------------------------------------------------


def test_the_authors_settings_are_the_defaults(file: Path) -> None:
    file.write_text(SEARCH.replace("{population: 4, interval: 1, seed: 3}", "{}"))
    found = load_grid(file).search
    assert found
    assert (found.population, found.interval, found.quantile, found.resample) == (16, 3, 0.25, 0.2)
    assert policy_of(found.base).schedule == ((4, ""),)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("seed: 3", "sed: 3", "search.sed: unknown key. Did you mean 'seed'?"),
        ("population: 4", "population: 1", "search.population: must be a whole number >= 2"),
        ("population: 4", "population: 250001", "search.population: asks for 1,000,004 trials in 4 rounds"),
        (
            "{padding: 1}",
            "true, randaugment: true",
            "base: augmentation.policy: cannot be combined",
        ),
        ("interval: 1", "interval: 4", r"search.interval: must be below epochs \(4\), got 4"),
        ("seed: 3", "quantile: 0.6", "search.quantile: must be above 0 and at most 0.5, got 0.6"),
        ("seed: 3", "resample: 2", r"search.resample: must be a share in 0..1, got 2"),
        ("val_ratio: 0.05", "val_ratio: 0", "base: a search needs images to choose the members by"),
        ("epochs: 4", "epochs: 4.5", "base: a search needs a whole number of epochs"),
        ("title:", "seeds: 2\ntitle:", "seeds: is not for a search, which trains `base` alone"),
        ("title:", "axes: {lr: [0.1, 0.2]}\ntitle:", "axes: is not for a search"),
        (
            "{random_crop: {padding: 1}}",
            "{policy: {schedule: [[2, ''], [2, Invert 1 0]]}}",
            "base: augmentation.policy: all members begin with one policy",
        ),
    ],
)
def test_what_is_wrong_with_a_search_is_said_with_its_place(
    old: str, new: str, problem: str, file: Path
) -> None:
    file.write_text(SEARCH.replace(old, new))
    with pytest.raises(GridError, match=rf"small.yaml:\d+: {problem}"):
        load_grid(file)


def test_a_search_may_begin_with_a_policy_and_be_reduced(file: Path) -> None:
    start = "{policy: {schedule: [[1, Invert 1 0]]}}"
    file.write_text(SEARCH.replace("{random_crop: {padding: 1}}", start))
    found = load_grid(file, scale={"epochs": 0.5}).search
    assert found
    assert policy_of(found.base).schedule == ((2, "Invert 1 0"),)
    assert found.search_id != load_grid(file).search.search_id  # type: ignore[union-attr]


def test_only_search_trains_a_search(file: Path, tmp_path: Path) -> None:
    assert "is a search; run it with `gridrun search`" in run("launch", file, exit_code=2).output
    other = tmp_path / "other.yaml"
    other.write_text(SEARCH.partition("search:")[0])
    assert "has no `search`; run it with `gridrun launch`" in search(other, exit_code=2).output
    assert "name one grid file, got 2" in search(file, file, exit_code=2).output
    assert "is a search; `gridrun search --retries 1` tries" in run("retry", file, exit_code=2).output
    nowhere = tmp_path / "nowhere" / "best.yaml"
    assert "there is no directory" in search(file, "--export", nowhere, exit_code=2).output


# --- training ----------------------------------------------------------------------------------------


def test_each_segment_trains_its_own_epochs_under_its_own_policy_from_its_donors_weights(
    file: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is trained is compared with the lineage, as it happens: policy, weights, epochs, seed."""
    trained: dict[str, list[tuple[int, str]]] = {}
    began_with: dict[str, Any] = {}
    ended_with: dict[str, Any] = {}
    batch, epoch, keep = Pipeline.batch, Run.epoch, Run.keep_state

    def spied_epoch(self: Run) -> Any:
        trial_id = self.runtime.trial_id or ""
        began_with.setdefault(trial_id, (_weights(self), len(self.history)))

        def spied_batch(pipeline: Pipeline, *arguments: Any) -> Any:
            result = batch(pipeline, *arguments)
            ((_, policy),) = pipeline.on_pixels[0].options.schedule  # type: ignore[attr-defined]
            trained.setdefault(trial_id, []).append((arguments[-1], policy))
            return result

        monkeypatch.setattr(Pipeline, "batch", spied_batch)
        return epoch(self)

    def spied_keep(self: Run) -> None:
        keep(self)
        ended_with[self.runtime.trial_id or ""] = (_weights(self), len(self.history))

    monkeypatch.setattr(Run, "epoch", spied_epoch)
    monkeypatch.setattr(Run, "keep_state", spied_keep)
    search(file)
    lineage = store.lineage(progress(file, store).search.search_id)
    assert len(lineage) == 4 * 4
    assert len({row.policy for row in lineage}) >= 4, "some policies were explored"
    for row in lineage:
        assert row.first_epoch == row.last_epoch == row.round
        assert set(trained[row.trial_id]) == {(row.last_epoch - 1, row.policy)}
        assert len(trained[row.trial_id]) == 2, "two steps, trained once"
        if row.parent_id:
            assert began_with[row.trial_id] == ended_with[row.parent_id]
    by_place = {(row.round, row.member): row for row in lineage}
    exploits = [row for row in lineage if row.donor is not None]
    assert len(exploits) == 3, "one of four, three times"
    for row in exploits:
        donor = by_place[row.round - 1, row.donor or 0]
        assert (row.parent_id, row.seed) == (donor.trial_id, donor.seed)
        assert row.policy != donor.policy
        scores = sorted(by_place[row.round - 1, member].val_error or 0 for member in range(4))
        assert donor.val_error == scores[0]
        assert by_place[row.round - 1, row.member].val_error == scores[-1]


def _weights(run: Run) -> dict[str, list[float]]:
    return {name: value.flatten().tolist() for name, value in run.learner.model.state_dict().items()}


def test_no_state_is_kept_that_nobody_needs(
    file: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start of each round there are its parents' states and no others; at the end there are none."""
    kept: list[set[str]] = []
    launch = search_run.launch

    def spied(grids: Any, *arguments: Any) -> Any:
        kept.append({path.stem for path in store.checkpoint("0" * 16).parent.glob("*.pt")})
        assert kept[-1] == set(grids[0].parents.values())
        return launch(grids, *arguments)

    monkeypatch.setattr(search_run, "launch", spied)
    search(file)
    assert [len(ids) for ids in kept] == [0, 3, 3, 3]
    assert not list(store.checkpoint("0" * 16).parent.iterdir())
    assert not (store.root / "checkpoints").exists(), "weights are kept only if asked for"


def test_a_search_that_was_killed_after_its_last_record_gets_it_into_the_parquet_files(
    file: Path, done: Store
) -> None:
    last = progress(file, done).current[-1].trial.trial_id
    (record,) = done.whole_records([last])
    wanted = pq.read_table(done.trials_path).num_rows
    done.forget([last])
    shutil.rmtree(done.root / "forgotten")
    done.add(record)
    assert pq.read_table(done.trials_path).num_rows == wanted - 1
    search(file)
    assert pq.read_table(done.trials_path).num_rows == wanted


def test_the_weights_of_the_last_round_are_kept_if_asked_for(file: Path, done: Store) -> None:
    found = {path.stem for path in (done.root / "checkpoints").glob("*.pt")}
    assert found == {segment.trial.trial_id for segment in progress(file, done).current}


def test_a_segment_whose_parent_is_lost_is_trained_from_the_start_and_says_so(
    file: Path, store: Store, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch, lost = search_run.launch, list[str]()

    def losing(grids: Any, *arguments: Any) -> Any:
        for parent in sorted(set(grids[0].parents.values()))[:1]:
            store.checkpoint(parent).unlink()
            lost.append(parent)
        return launch(grids, *arguments)

    monkeypatch.setattr(search_run, "launch", losing)
    said = search(file).stderr.splitlines()
    assert len(lost) == 3
    assert sum(" validation error " in line for line in said if line.startswith("done ")) == 16
    whole = Store(finished)
    search_id = progress(file, store).search.search_id
    assert store.lineage(search_id) == whole.lineage(search_id)
    assert figures(store) == figures(whole)
    notes = {row["trial_id"]: row["notes"] for row in store.rows().values()}
    for row in store.lineage(search_id):
        note = f"trained from the start: checkpoint {row.parent_id}.pt, to go on from, is lost"
        told = f"{row.trial_id}: {note}"
        path = run("why", "small", row.member, file).stdout.splitlines()
        ancestry = {segment.trial.trial_id for segment in progress(file, store).ancestry(row.member)}
        if row.parent_id in lost:
            assert notes[row.trial_id] == note
        assert said.count(told) == (row.parent_id in lost), "once, and not again for what goes on from it"
        assert path.count(f"  {told}") == (row.parent_id in lost and row.trial_id in ancestry)
    assert not [note for note in (r["notes"] for r in whole.rows().values()) if note]


def test_copies_of_states_take_the_place_of_lost_ones_and_go_when_nobody_needs_them(
    file: Path, store: Store, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies, launch = tmp_path / "copies", search_run.launch
    kept: list[set[str]] = []

    def losing(grids: Any, *arguments: Any) -> Any:
        parents = set(grids[0].parents.values())
        for parent in parents:
            store.drop_checkpoint(parent)
        kept.append({path.name for path in copies.glob("*.pt")})
        assert kept[-1] == {f"{parent}.pt" for parent in parents}
        return launch(grids, *arguments)

    monkeypatch.setattr(search_run, "launch", losing)
    search(file, "--checkpoints", copies)
    assert len(kept) == 4
    assert not list(copies.iterdir())
    assert figures(store) == figures(Store(finished))
    assert not [row["notes"] for row in store.rows().values() if row["notes"]]


@pytest.mark.slow
def test_side_by_side_under_ray_a_search_is_the_same(file: Path, store: Store, finished: Path) -> None:
    run("search", file, "--cpus", "2")
    search_id = progress(file, store).search.search_id
    assert store.lineage(search_id) == Store(finished).lineage(search_id)
    assert figures(store) == figures(Store(finished))


def test_a_finished_search_starts_nothing(file: Path, done: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in done.root.rglob("*.parquet")}
    assert len(before) == 3
    monkeypatch.setattr(Run, "epoch", lambda self: pytest.fail("trained again"))
    assert search(file).stdout == search(file).stdout
    assert {path: path.read_bytes() for path in done.root.rglob("*.parquet")} == before


def test_searches_that_differ_in_what_they_replace_share_their_first_round(file: Path, done: Store) -> None:
    trials = len(done.statuses())
    file.write_text(SEARCH.replace("seed: 3", "seed: 3, quantile: 0.5"))
    search(file)
    assert len(done.lineages()) == 2
    assert trials < len(done.statuses()) <= 2 * trials - 4


def test_a_diverged_member_goes_on_from_one_that_has_not(
    file: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = Run.test

    def spoilt(self: Run) -> tuple[float, float, float | None]:
        return (float("nan"), 1.0, None) if self.seed == 13 and not self.history else test(self)

    monkeypatch.setattr(Run, "test", spoilt)
    search(file, "--set", "epochs=2")
    found = progress(file, store, epochs=2)
    assert found.errors[found.rounds[0][1].trial.trial_id] is None
    assert found.rounds[1][1].donor is not None
    (row,) = [row for row in found.lineage() if (row.round, row.member) == (1, 1)]
    assert row.val_error is None


def test_a_failed_segment_stops_the_search_until_it_is_tried_again(
    file: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch, short = Run.epoch, ("--set", "epochs=2")

    def failing(self: Run) -> Any:
        if self.seed == 13 and len(self.history) == 1:
            raise RuntimeError("a broken image")
        return epoch(self)

    with monkeypatch.context() as broken:
        broken.setattr(Run, "epoch", failing)
        said = search(file, *short, exit_code=1).stderr
    assert "round 2 of 2" in said
    assert "Stopped: 1 segment failed; `gridrun status` shows why, --retries N tries again." in said
    assert "a broken image" in run("status").stdout
    assert search(file, *short, exit_code=1).stdout == "", "what has failed is not tried again by itself"
    left_out = run("retry", "--failed").stderr
    assert "1 segment of searches left out: `gridrun search GRID --retries 1` tries" in left_out
    assert "Nothing to retry" in left_out
    search(file, *short, "--retries", "1")
    assert progress(file, store, epochs=2).is_over


# --- what is shown ---------------------------------------------------------------------------------


def test_the_best_schedule_is_exported_and_read_by_a_grid(file: Path, done: Store, tmp_path: Path) -> None:
    store, path = done, tmp_path / "best.yaml"
    said = search(file, "--export", path).stdout
    best = progress(file, store).best
    assert best
    refused = search(file, "--export", "/proc/best.yaml", exit_code=2).stderr  # root may write all others
    assert "--export /proc/best.yaml: " in refused
    assert "cannot be written" in refused
    last = [row for row in store.lineage(progress(file, store).search.search_id) if row.round == 4]
    assert (store.rows()[best.trial.trial_id]["test_error"]) == min(row.val_error or 0 for row in last)
    assert f"best: member {best.member}" in said
    assert read_schedule(path) == best.schedule
    assert length(best.schedule) == 4
    replay = tmp_path / "replay.yaml"
    replay.write_text(
        SEARCH.partition("search:")[0].replace("random_crop", "policy: {schedule: best.yaml}, random_crop")
    )
    (row,) = load_grid(replay, {"epochs": 8}).rows
    policy = policy_of(row.config)
    assert policy.schedule == best.schedule
    assert [policy.schedule[piece_at(policy.schedule, epoch, 8)][1] for epoch in (0, 7)] == [
        best.schedule[0][1],
        best.schedule[-1][1],
    ]


def test_plan_status_and_why_know_how_far_a_search_is(
    file: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "small: 4 members, round 1 of 4 (epochs 1 to 1 of 4): 0 done" in run("plan", file).stdout
    epoch = Run.epoch

    def stopping(self: Run) -> Any:
        if len(self.history) == 2:
            raise RuntimeError("no more today")
        return epoch(self)

    with monkeypatch.context() as broken:
        broken.setattr(Run, "epoch", stopping)
        search(file, exit_code=1)
    found = progress(file, store)
    assert len(found.rounds) == 3
    (taken,) = [segment for segment in found.current if segment.donor is not None]
    status = run("status", file).stdout
    tables = run("table", file)
    assert tables.stdout == ""
    assert f"a search has no table; `gridrun status {file}` shows how far it is" in tables.stderr
    assert "small: 4 members, round 3 of 4 (epochs 3 to 3 of 4): 0 done; best so far: member" in status
    assert f"member {taken.member}, goes on from member {taken.donor}, validation error" in status
    assert "no more today" in status
    why = run("why", "small", taken.member, file).stdout
    assert f"epochs 3-3: member {taken.member}, from member {taken.donor}, {taken.trial.trial_id}" in why
    assert f"  {taken.policy}" in why
    path = json.loads(run("why", "A small search", taken.member, file, "--json").stdout)
    assert [row["trial_id"] for row in path] == [s.trial.trial_id for s in found.ancestry(taken.member)]
    assert [row["round"] for row in path] == [1, 2, 3]
    assert path[-1]["donor"] == taken.donor
    known = json.loads(run("status", file, "--json").stdout)["searches"][0]
    assert (known["round"], known["rounds"], known["is_over"]) == (3, 4, False)
    assert "the members 0 to 3" in run("why", "small", "4", file, exit_code=2).output


@pytest.mark.usefixtures("done")
def test_an_estimate_covers_all_rounds(file: Path) -> None:
    longer = ("--set", "epochs=12", "--cpus", "1", "--json")
    estimate = json.loads(run("plan", file, *longer).stdout)
    assert estimate["trials"] == 4
    seconds = [trial["seconds"] for trial in estimate["order"]]
    assert estimate["estimate"]["makespan_seconds"] == pytest.approx(12 * sum(seconds), rel=0.01)
    assert estimate["estimate"]["hours"] == pytest.approx(12 * sum(seconds) / 3600, rel=0.01)
    too_much = ("--set", "epochs=12", "--budget-hours", 2 * sum(seconds) / 3600)
    assert "to run, estimated at" in search(file, *too_much, exit_code=2).output
    shown = run("search", file, *too_much, "--dry-run", exit_code=1).stdout
    assert shown.startswith("small: 4 members, round 1")


def test_a_segment_costs_its_own_epochs_if_its_parents_state_is_there(
    file: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = Run.epoch

    def stopping(self: Run) -> Any:
        if len(self.history) == 3:
            raise RuntimeError("no more today")
        return epoch(self)

    monkeypatch.setattr(Run, "epoch", stopping)
    search(file, exit_code=1)
    grid = progress(file, store).grid
    for trial in grid.trials:  # what it has of its own
        store.drop_checkpoint(trial.trial_id)

    def left() -> dict[str, float]:
        plan = make_plan([grid], {})
        return dict(forecast_from(store, plan, plan.to_start, Capacity(cpus=1, gpus=0)).left)

    before = left()
    child, parent = next(iter(grid.parents.items()))
    store.drop_checkpoint(parent)
    after = left()
    assert after[child] == pytest.approx(4 * before[child])


def test_a_damaged_lineage_is_an_error_to_read_and_is_written_anew(file: Path, done: Store) -> None:
    search_id = progress(file, done).search.search_id
    rows = done.lineage(search_id)
    assert len(rows) == 16
    path = done.root / "searches" / f"{search_id}.parquet"
    path.write_bytes(b"nonsense")
    with pytest.raises(StoreError, match="is damaged"):
        done.lineages()
    search(file)
    assert done.lineages() == {search_id: rows}


@pytest.mark.usefixtures("done")
def test_what_only_shows_a_search_imports_nothing_heavy(file: Path, tmp_path: Path) -> None:
    small, new = str(file), ["--set", "epochs=5"]
    lines = [["plan", small, *new], ["status", small], ["why", "small", "1", small]]
    best = str(tmp_path / "best.yaml")
    lines += [["search", small, *new, "--dry-run"], ["search", small, "--export", best]]
    script = (
        f"import sys; from click.testing import CliRunner; import cli; lines = {lines!r}; "
        "results = [CliRunner().invoke(cli.main, line) for line in lines]; "
        "assert not any(r.exit_code for r in results), [r.output for r in results]; "
        "print(*{m.partition('.')[0] for m in sys.modules})"
    )
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not set(said.split()) & {"torch", "ray", "pandas"}


def test_a_launch_counts_what_a_parent_has_done_as_done_before(file: Path, store: Store) -> None:
    found = progress(file, store).search
    before = first_round(found)
    errors = {segment.trial.trial_id: 0.1 * segment.member for segment in before}
    after = [segment.trial for segment in next_round(found, before, errors)]
    tracker = Tracker(after, utc_now(), cost=lambda trial: 1.0, begun=lambda trial: 0.5)
    assert [trial.config.last_epoch for trial in after] == [2] * 4
    tracker.handle(Started(after[0]))
    assert tracker.snapshot().share == 0
    measured: dict[str, Any] = {
        "lr": 0.1,
        "train_loss": 1.0,
        "train_error": 0.5,
        "test_loss": 1.0,
        "test_error": 0.5,
    }
    tracker.handle(Epochs(after[0], Epoch(epoch=2, train_seconds=1.0, **measured)))
    assert tracker.snapshot().share == pytest.approx(0.25)


@pytest.mark.parametrize("rows", ["--seeds=2", "--where=lr=0.1"])
def test_a_search_has_no_rows_to_choose_from(rows: str, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SEARCH)
    for command in ("plan", "status", "launch"):
        result = CliRunner().invoke(cli.main, [command, str(file), rows])
        assert result.exit_code == 2
        assert "is a search: --seeds and --where pick rows" in result.stderr


def test_a_grid_beside_a_search_keeps_its_rows(tmp_path: Path) -> None:
    files = tmp_path / "search.yaml", tmp_path / "rows.yaml"
    files[0].write_text(SEARCH)
    files[1].write_text("base: {dataset: digits, model: {name: resnet_preact, depth: 8}, epochs: 1}")
    arguments = ["plan", *map(str, files), "--seeds=2", f"--results={tmp_path}"]
    planned = CliRunner().invoke(cli.main, arguments).stdout
    assert planned.startswith("2 trials: 2 missing"), "the search is left out, as a grid without such rows"


def test_a_search_says_what_to_do_in_place_of_again_and_keeps_its_own_file(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SEARCH)
    assert "takes no --again: `gridrun forget ID...`" in search(file, "--again", "all", exit_code=2).stderr
    assert "is the grid itself" in search(file, "--export", file, exit_code=2).stderr
    assert file.read_text() == SEARCH
