"""Plans: which trials are requested, what has changed, in which order they run, and what they cost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

import cli
from gridrun import resources
from gridrun.errors import LaunchError
from gridrun.grid import Grid, load_grid
from gridrun.plan import Plan, changed, forecast_from, make_plan, requested_name
from gridrun.plan.costs import Costs
from gridrun.plan.forecast import make_forecast
from gridrun.plan.trials import restrict, select_trials
from gridrun.resources import Capacity, Hardware
from gridrun.store import Store
from gridrun.store.records import Provenance, Record
from gridrun.sweep.worker import identity_of
from gridrun.text import utc_now
from trainer.metrics import Epoch

GRID = """
base: {model: {name: resnet_preact, depth: 8, initial_channels: 4}}
axes: [{epochs: [1, 4]}]
seeds: 2
"""
CORES = Capacity(cpus=2, gpus=0)


@pytest.fixture
def path(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRIDRUN_CACHE", str(cache_dir))
    monkeypatch.delenv("GRIDRUN_RESULTS", raising=False)
    path = tmp_path / "small.yaml"
    path.write_text(GRID)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def ok(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def planned(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ok("plan", *arguments, "--json"))
    return found


def epoch_of(number: int, seconds: float) -> Epoch:
    figures = {"lr": 0.1, "train_loss": 1.0, "train_error": 0.5, "test_loss": 1.0, "test_error": 0.5}
    return Epoch(epoch=number, train_seconds=seconds, **figures)


def past(plan: Plan, seconds: float) -> Costs:
    """Return costs that know one trial of each config, `seconds` for each of its epochs."""
    rows = [
        {
            "config_id": trial.config_id,
            "config_json": json.dumps(trial.config.canonical()),
            "status": "done",
            "started_at": None,
            "ended_at": utc_now(),
            "resumes": 0,
            "train_seconds": seconds * trial.config.epochs,
            "macs": 1,
            "cpu": "Xeon",
            "threads": 1,
        }
        for trial in plan.trials
    ]
    return Costs(rows, Hardware("Xeon, 1 thread", is_gpu=False))


# --- what is requested ------------------------------------------------------------------------------


def test_grids_share_trials(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(GRID.replace("[1, 4]", "[4, 6]").replace("seeds: 2", "seeds: 3"))
    plan = make_plan([load_grid(path), load_grid(other)], {})
    assert (len(plan.trials), plan.num_requested) == (8, 10)
    assert set(plan.shared.values()) == {1}
    assert [trial.seed for trial in plan.trials] == [0, 0, 0, 1, 1, 1, 2, 2]
    expected = make_forecast(plan, plan.missing, past(plan, 900.0), CORES)
    assert expected.shared_hours == pytest.approx(2 * 4 * 900 / 3600)
    assert expected.hours == pytest.approx((2 * 1 + 3 * 4 + 3 * 6) * 900 / 3600)


def test_a_trial_has_the_earliest_round_of_its_requests_and_the_name_of_its_case(
    path: Path, tmp_path: Path
) -> None:
    named, second = tmp_path / "named.yaml", tmp_path / "second.yaml"
    cases = "axes: [{cases: [{epochs: 1, name: short}, {epochs: 4, name: long}]}]"
    named.write_text(GRID.replace("axes: [{epochs: [1, 4]}]", cases))
    second.write_text(GRID.replace("seeds: 2", "seeds: [1, 0]"))
    plan = make_plan([load_grid(path), load_grid(named), load_grid(second)], {})
    assert len(plan.trials) == 4
    assert {plan.names[trial.trial_id]: trial.config.epochs for trial in plan.trials} == {
        "short": 1,
        "long": 4,
    }
    assert set(plan.rounds.values()) == {0}


def test_trials_are_selected_by_id_or_by_its_beginning(path: Path) -> None:
    plan = make_plan([load_grid(path)], {})
    done, failed, one, other = (trial.trial_id for trial in plan.trials)
    plan = make_plan([load_grid(path)], {done: "done", failed: "failed"})
    plan = replace(plan, to_retry=frozenset({failed}))

    def selected(*only: str) -> list[str]:
        return [trial.trial_id for trial in select_trials(plan, only)]

    assert selected() == [one, other, failed]
    assert selected(one) == [one]
    assert selected(one[:10]) == [one]
    assert selected(other[:10], failed) == [other, failed]
    assert selected(done) == [], "it is there, and nothing is to be started"
    for unknown in ("x", "", f"{one}0"):
        with pytest.raises(LaunchError, match="no trial of these grids has an id that begins with"):
            selected(one, unknown)


def test_a_part_of_a_plan_counts_its_own_trials_alone(path: Path) -> None:
    plan = make_plan([load_grid(path)], {})
    done, failed, missing, other = plan.trials
    statuses = {done.trial_id: "done", failed.trial_id: "failed", other.trial_id: "failed"}
    plan = replace(plan, status=statuses, to_retry=frozenset({failed.trial_id, other.trial_id}))
    part = restrict(plan, [done, missing, other])
    assert part.counts == {"done": 1, "diverged": 0, "failed": 0, "to be tried again": 1, "missing": 1}
    assert (part.ended("done"), part.missing, part.to_start) == ((done,), (missing,), (missing, other))
    assert (part.num_requested, part.shared) == (3, {})


@given(st.data())
def test_every_missing_trial_is_in_a_forecast_exactly_once(data: st.DataObject) -> None:
    plan = make_plan([GRIDS[data.draw(st.integers(0, 1))], GRIDS[data.draw(st.integers(0, 1))]], {})
    ids = [trial.trial_id for trial in plan.trials]
    done = data.draw(st.sets(st.sampled_from(ids)))
    plan = make_plan(GRIDS, dict.fromkeys(done, "done"))
    costs = data.draw(st.sampled_from([Costs([], Hardware("Xeon", is_gpu=False)), past(plan, 1.0)]))
    expected = make_forecast(plan, plan.missing, costs, Capacity(cpus=data.draw(st.integers(1, 8)), gpus=0))
    assert sorted(trial.trial_id for trial in expected.trials) == sorted(
        trial.trial_id for trial in plan.trials if trial.trial_id not in done
    )
    assert len(expected.trials) == plan.counts["missing"]


def test_a_trial_with_a_checkpoint_counts_what_is_left(path: Path) -> None:
    plan = make_plan([load_grid(path)], {})
    long = next(trial for trial in plan.trials if trial.config.epochs == 4)
    expected = make_forecast(plan, plan.missing, past(plan, 10.0), CORES, {long.trial_id: 3})
    assert expected.costs[long.trial_id].amount == pytest.approx(40.0)
    assert expected.left[long.trial_id] == pytest.approx(10.0)
    assert expected.hours == pytest.approx((10 + 40 + 10 + 10) / 3600)


def test_running_trials_take_slots_and_show_how_long_others_take(path: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    plan = make_plan([load_grid(path)], {})
    long = next(trial for trial in plan.trials if trial.config.epochs == 4)
    others = [trial for trial in plan.trials if trial != long]
    unknown = forecast_from(store, plan, others, CORES, {long: None})
    assert unknown.is_relative
    expected = forecast_from(store, plan, others, CORES, {long: epoch_of(1, seconds=10.0)})
    assert [expected.left[trial.trial_id] for trial in plan.trials if trial.config.epochs == 1] == [
        pytest.approx(10.0)
    ] * 2
    assert expected.left[long.trial_id] == pytest.approx(30.0)
    # Two cores, of which one is free after 30 s: 10 and 40 s, then 10.
    assert expected.makespan_seconds == pytest.approx(50.0)
    assert expected.hours == pytest.approx((10 + 40 + 10) / 3600), "of those that are to be started"


def test_retries_come_after_the_first_attempts_of_their_seed(path: Path) -> None:
    plan = make_plan([load_grid(path)], {})
    again = next(trial for trial in plan.trials if (trial.config.epochs, trial.seed) == (4, 0))
    plan = replace(plan, to_retry=frozenset({again.trial_id}))
    expected = make_forecast(plan, plan.trials, past(plan, 10.0), Capacity(cpus=1, gpus=0))
    assert [(trial.seed, trial.config.epochs) for trial in expected.trials] == [
        (0, 1),
        (0, 4),
        (1, 4),
        (1, 1),
    ]


# --- what has changed -------------------------------------------------------------------------------


def test_a_store_remembers_by_grid_what_launches_requested(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.requested.read("a") == frozenset()
    one, other = "0" * 16, "1" * 16
    store.requested.add("a", [one])
    Store(tmp_path).requested.add("a", [one, other])
    store.requested.add("b", [other])
    assert store.requested.read("a") == {one, other}
    assert store.requested.read("b") == {other}
    with (tmp_path / ".work" / "asked" / "a").open("a") as file:
        file.write("22222222")  # a launch was killed
    store.requested.add("a", ["3" * 16])
    assert store.requested.read("a") == {one, other, "3" * 16}


def test_an_edited_grid_shows_added_and_dropped_trials(path: Path) -> None:
    before = load_grid(path)
    ids = {trial.trial_id for trial in before.trials}
    statuses = dict.fromkeys(ids, "done")
    path.write_text(GRID.replace("[1, 4]", "[4, 6]"))
    after = load_grid(path)
    plan = make_plan([after], statuses)
    assert changed([after], plan, [()], statuses) is None, "it has never been launched"
    change = changed([after], plan, [ids], statuses)
    assert change is not None
    assert {trial.config.epochs for trial in change.added} == {6}
    assert set(change.dropped) == {trial.trial_id for trial in before.trials if trial.config.epochs == 1}
    both = changed([after, before], make_plan([after, before], statuses), [ids, ids], statuses)
    assert both is not None
    assert not both.dropped, "another grid still requests them"
    first = changed([before, after], make_plan([before, after], statuses), [ids, ()], statuses)
    assert first is not None
    assert not first.added, "the other grid has never been launched"
    never_ran = changed([after], plan, [ids], {})
    assert never_ran is not None
    assert not never_ran.dropped


def test_grids_of_one_name_in_two_directories_are_different_grids(path: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / path.name
    other.write_text(GRID.replace("[1, 4]", "[4, 6]"))
    forms = [
        load_grid(path),
        load_grid(other),
        load_grid(path, {"lr": 0.2}),
        load_grid(path, scale={"train": 400}),
        load_grid(path, scale={"train": 500}),
        load_grid(path, seeds=1),
    ]
    assert len({requested_name(grid, store) for grid in forms}) == len(forms)
    assert requested_name(load_grid(path.name), store) == requested_name(forms[0], store), (
        "however it is named"
    )
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / path.name).write_text(GRID)
    assert requested_name(load_grid(moved / path.name), Store(moved / "results")) == requested_name(
        forms[0], store
    )


# --- the commands -----------------------------------------------------------------------------------


def test_what_all_trials_share_stands_above_them(path: Path) -> None:
    network = "digits ResNet-preact-8, widening factor 0.25"
    *_, shared, first, _, third, _ = ok("plan", path).splitlines()
    assert shared == f"all: {network}, batch size 128, lr 0.1, cosine"
    assert first.split("  ")[-1] == "4 epochs, seed 0"
    assert third.split("  ")[-1] == "4 epochs, seed 1"
    assert f"these 20: {network}, " in ok("plan", path, "--seeds", 30)


def test_plans_before_and_after_launches_and_edits(path: Path, tmp_path: Path) -> None:
    first = planned(path)
    assert first["estimate"]["is_relative"]
    assert first["estimate"]["hours"] is None
    assert (first["added"], first["no_longer_asked_for"]) == (None, None)
    assert [(trial["seed"], trial["seconds"]) for trial in first["order"]] == [(0, None)] * 2 + [
        (1, None)
    ] * 2
    assert first["order"][0]["cost"] == pytest.approx(4 * first["order"][1]["cost"]), "longest first"
    assert "relative only" in ok("plan", path)

    refused = run("launch", path, "--budget-hours", 1, "--executor", "serial")
    assert refused.exit_code == 2
    assert "no past trials" in refused.stderr
    assert not (tmp_path / "results").exists()

    launched = run("launch", path, "--executor", "serial", "--seeds", 1)
    assert launched.exit_code == 0, launched.output
    assert "2 trials to run: longest first on 1 core" in launched.stderr

    second = planned(path, "--cpus", 4)
    assert second["missing"] == 2
    assert second["added"] is None, "with other seeds it is no edited grid"
    assert second["estimate"]["bases"] == {"same": 2}
    assert second["estimate"]["slots"] == 4
    seconds = [trial["seconds"] for trial in second["order"]]
    assert second["estimate"]["makespan_seconds"] == pytest.approx(max(seconds))
    assert second["estimate"]["hours"] == pytest.approx(sum(seconds) / 3600)
    assert "from 2 trials of this store" in ok("plan", path)

    over = run("plan", path, "--budget-hours", 0)
    assert over.exit_code == 1
    assert "--budget-hours 0: 2 trials to run, estimated at" in over.stderr
    dry_run = run("launch", path, "--budget-hours", 0, "--dry-run")
    assert (dry_run.exit_code, dry_run.stderr) == (1, over.stderr)
    refused = run("launch", path, "--budget-hours", 0, "--executor", "serial")
    assert refused.exit_code == 2
    assert "--budget-hours 0: 2 trials to run, estimated at" in refused.stderr
    assert planned(path)["missing"] == 2
    assert run("plan", path, "--budget-hours", 1).exit_code == 0
    assert run("launch", path, "--budget-hours", 1, "--executor", "serial").exit_code == 0

    assert "(2 measured, from 4 trials of this store" in ok("plan", path, "--seeds", 3)
    deeper = ("--set", "model.depth=14")
    guess = planned(path, *deeper, "--seeds", 1)["estimate"]
    assert guess["rests_on"] == {"guessed": 2}
    low, high = guess["hours_range"]
    assert low < guess["hours"] < high
    assert low == pytest.approx(guess["hours"] ** 2 / high, rel=1e-3), "as far either way"
    shown = ok("plan", path, *deeper, "--seeds", 1)
    assert "a guess: " in shown
    assert ".." in shown.splitlines()[-1]
    within = ("launch", path, *deeper, "--seeds", 1, "--executor", "serial", "--budget-hours", guess["hours"])
    refused = run(*within)
    assert refused.exit_code == 2
    assert "core-hours is only a guess (from " in refused.stderr
    assert "measure first, such as with `--only " in refused.stderr
    assert run("plan", path, *deeper, "--seeds", 1, "--budget-hours", 2 * high).exit_code == 0
    over = run("plan", path, *deeper, "--seeds", 1, "--budget-hours", 0)
    assert "core-hours, a guess (from" in over.stderr

    path.write_text(GRID.replace("[1, 4]", "[4, 6]"))
    edited = ok("plan", path)
    assert "since earlier launches: 2 added, 2 no longer asked for (their results stay" in edited
    assert "4 trials: 2 done, 2 missing" in edited


def test_measured_shares_come_from_past_trials_or_are_a_guess(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "gpu_names", list)
    auto = (path, "--gpus", 2, "--cpus", 16, "--gpus-per-trial", "auto")
    assert planned(*auto)["estimate"]["unmeasured"] == 4
    assert "a GPU for each of 4 trials is a guess, to be measured)" in ok("plan", *auto)
    short = load_grid(path).rows[0].trials[0]
    store = Store(tmp_path / "results")
    store.create()
    gpu = Provenance(gpu="H200", gpu_share=0.25, device="cuda")
    times = {"started_at": None, "ended_at": utc_now(), "train_seconds": 100.0, "resumes": 0}
    store.add(Record(**identity_of(short), status="done", provenance=gpu, epochs=(), **times))
    found = planned(*auto)["estimate"]
    assert found["unmeasured"] == 0, "longer ones take no more of a GPU"
    # 100, 400 and 400 s, four of them to a GPU.
    assert found["makespan_seconds"] == pytest.approx(400.0)
    assert found["hours"] == pytest.approx(900 / 4 / 3600)
    assert "a guess" not in ok("plan", *auto)
    wider = planned(*auto, "--set", "model.initial_channels=8")["estimate"]
    assert wider["unmeasured"] == 4
    assert wider["hours"] == pytest.approx(wider["makespan_seconds"] * 2 / 3600, rel=0.5), "one each"


def test_trials_that_fit_nowhere_are_reported(path: Path) -> None:
    launched = run("launch", path, "--executor", "serial")
    assert launched.exit_code == 0, launched.output
    assert "fit nowhere on 1 core" in ok("plan", path, "--set", "num_gpus=4", "--cpus", 1)
    estimate = planned(path, "--set", "num_gpus=4", "--cpus", 1)["estimate"]
    assert (estimate["fits"], estimate["makespan_seconds"]) == (False, None)


def _grids() -> list[Grid]:
    found = []
    root = Path(__file__).parent.parent / "grids"
    for name in ("quickstart", "fashion_mnist_smoke"):
        found.append(load_grid(root / f"{name}.yaml"))
    return found


GRIDS = _grids()


def test_threads_to_be_measured_are_said_to_be_a_guess(tmp_path: Path) -> None:
    grid = tmp_path / "small.yaml"
    grid.write_text("base: {dataset: digits, model: {name: resnet_preact, depth: 8}, epochs: 1}")
    plan = ["plan", str(grid), f"--results={tmp_path}", "--gpus=0"]
    assert (
        "1 thread a trial is a guess" in CliRunner().invoke(cli.main, [*plan, "--cpus-per-trial=auto"]).stdout
    )
    assert "a guess" not in CliRunner().invoke(cli.main, plan).stdout
