"""`--set`, `--seeds` and `--where`: what they make of a grid, and that every command takes them alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from by_hand import record
from click.testing import CliRunner

import gridrun
from cli import main
from gridrun.errors import GridError
from gridrun.grid import Grid, load_grid, load_grids
from gridrun.store import Store

STUDY = """\
title: A study
base: {model: {name: resnet_preact, depth: 20}, dataset: cifar10, epochs: 200}
axes:
- schedule: [cosine, multistep]
- batch_size: [64, 128]
derive: {schedule.milestones: [epochs / 2]}
exclude: [{schedule: multistep, batch_size: 64}]
seeds: 3
tables:
- id: cosine
  where: {schedule: cosine}
  columns: [batch_size, paper, test_error]
  published: [{batch_size: 64, epochs: 200, test_error: 7.1, paper: about 7}]
- {id: multistep, title: Steps, where: {schedule: multistep}, columns: [batch_size, test_error]}
- {id: elsewhere, columns: [batch_size, test_error], reported: [{batch_size: 128, test_error: 5}, {batch_size: 9}]}
plots: [{id: error, x: batch_size, where: {schedule: cosine}}]
profiles: {small: {scale: {epochs: 10}, seeds: 2}}
"""  # noqa: E501


def load(folder: Path, text: str = STUDY, **options: Any) -> Grid:
    (folder / "study.yaml").write_text(text)
    return load_grid(folder / "study.yaml", options.pop("set", None), **options)


def refused(folder: Path, text: str = STUDY, **options: Any) -> str:
    with pytest.raises(GridError) as raised:
        load(folder, text, **options)
    return str(raised.value).replace(f"{folder}/", "")


def test_settings_make_other_rows_of_the_same_study(tmp_path: Path) -> None:
    grid = load(tmp_path, set={"epochs": 10})
    assert [row.config.epochs for row in grid.rows] == [10, 10, 10]
    assert grid.rows[2].option("schedule.milestones") == [5.0]
    cosine, steps = grid.tables
    assert (cosine.title, cosine.id) == ("A study (set: 10 epochs)", "cosine_set_epochs-10")
    assert steps.title == "Steps (set: 10 epochs)"
    assert grid.plots[0].id == "error_set_epochs-10"
    assert (cosine.published, cosine.columns) == ({}, ("batch_size", "test_error"))
    study = load(tmp_path)
    assert not {trial.trial_id for trial in grid.trials} & {trial.trial_id for trial in study.trials}
    assert study.title == "A study"


def test_rows_that_settings_leave_as_they_are_keep_what_is_published(tmp_path: Path) -> None:
    study, grid = load(tmp_path), load(tmp_path, set={"epochs": 200})
    assert [row.config_id for row in grid.rows] == [row.config_id for row in study.rows]
    assert grid.tables[0].published == study.tables[0].published
    assert grid.tables[0].title == "A study (set: 200 epochs)"


def test_where_of_tables_and_exclude_mean_the_study_s_rows(tmp_path: Path) -> None:
    text = """\
base: {model: {name: resnet_preact, depth: 20}, dataset: cifar10, epochs: 200}
axes: {lr: [0.1, 0.2, 0.4]}
extra: [{lr: 0.3, schedule: constant}]
exclude: [{lr: 0.4}]
tables: [{id: a, where: {schedule: cosine}}, {id: b, where: {schedule: constant}}]
"""
    grid = load(tmp_path, text, set={"schedule": "linear"})
    assert [[row.config.lr for row in table.rows] for table in grid.tables] == [[0.1, 0.2], [0.3]]
    assert {row.config.schedule.name for row in grid.rows} == {"linear"}
    assert "(lr 0.2) becomes the same as (lr 0.1), with --set lr" in refused(tmp_path, text, set={"lr": 0.4})


def test_seeds_stand_in_titles_and_change_no_config(tmp_path: Path) -> None:
    study, grid = load(tmp_path), load(tmp_path, seeds=5)
    assert grid.tables[0].title == "A study (5 seeds)"
    assert grid.tables[0].published == study.tables[0].published
    assert [row.seeds for row in grid.rows] == [(0, 1, 2, 3, 4)] * 3
    assert load(tmp_path, seeds=[7, 9]).title == "A study (seeds 7, 9)"
    assert load(tmp_path, seeds=[7, 9]).tables[1].id == "multistep_seeds-7-9"


def test_where_leaves_rows_tables_and_figures_out(tmp_path: Path) -> None:
    grid = load(tmp_path, where={"schedule": "multistep"})
    assert [row.config.schedule.name for row in grid.rows] == ["multistep"]
    assert [(table.id, table.title) for table in grid.tables] == [
        ("multistep_where_schedule-multistep", "Steps (only multistep)")
    ]
    assert grid.plots == ()
    both = load(tmp_path, where={"batch_size": [64, 128]})
    assert both.title == "A study (only batch size 64 or batch size 128)"
    assert len(both.rows) == 3
    some = load(tmp_path, where={"batch_size": 128})
    assert [len(table.rows) for table in some.tables] == [1, 1, 0]
    assert [row.options for row in some.tables[2].reported] == [{"batch_size": 128}]


def test_all_of_them_together_say_all_of_it(tmp_path: Path) -> None:
    grid = load(
        tmp_path, profile="small", set={"lr": 0.2}, seeds=1, where={"batch_size": 64, "schedule": "cosine"}
    )
    assert grid.title == (
        "A study (small: 10 epochs, 50,000 images of CIFAR-10; set: lr 0.2; 1 seed; "
        "only batch size 64, cosine)"
    )
    assert [trial.config.lr for trial in grid.trials] == [0.2]


def test_a_long_change_is_a_digest_in_ids(tmp_path: Path) -> None:
    ids = {load(tmp_path, where={"batch_size": list(range(64, end))}).tables[0].id for end in (99, 129, 130)}
    assert len(ids) == 3
    assert all(len(text) == len("cosine_") + 8 for text in ids)


def test_settings_may_complete_a_grid(tmp_path: Path) -> None:
    text = STUDY.replace("model: {name: resnet_preact, depth: 20}, ", "")
    assert "model: " in refused(tmp_path, text)
    grid = load(tmp_path, text, set={"model": {"name": "resnet_preact", "depth": 20}})
    assert [row.config_id for row in grid.rows] == [row.config_id for row in load(tmp_path).rows]
    assert grid.tables[0].published == {}


def test_where_that_matches_nothing_names_the_values(tmp_path: Path) -> None:
    assert refused(tmp_path, where={"batch_size": 32}) == (
        "--where: no row of study.yaml has batch_size=32; batch_size is 64, 128"
    )
    assert "unknown option. Did you mean 'batch_size'?" in refused(tmp_path, where={"batchsize": 32})
    (tmp_path / "other.yaml").write_text(STUDY.replace("[64, 128]", "[64, 32]"))
    paths = [tmp_path / "study.yaml", tmp_path / "other.yaml"]
    assert [grid.path.name for grid in load_grids(paths, where={"batch_size": 32})] == ["other.yaml"]
    with pytest.raises(GridError, match="no row of these 2 grids"):
        load_grids(paths, where={"batch_size": 31})


# --- commands ----------------------------------------------------------------------------------


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


OPTIONS = ("--set", "lr=0.2", "--seeds", "2", "--where", "schedule=cosine", "--where", "batch_size=64")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a store with one of the two trials that OPTIONS ask for."""
    monkeypatch.chdir(tmp_path)
    load(tmp_path)
    (row,) = load(tmp_path, set={"lr": 0.2}, where={"schedule": "cosine", "batch_size": 64}).rows
    store = Store(tmp_path / "results")
    store.create()
    store.add(record(row, 0, test_error=0.07))
    return store


TITLE = "A study (set: lr 0.2; 2 seeds; only cosine, batch size 64)"


def test_every_command_takes_the_same_row_options(store: Store, tmp_path: Path) -> None:
    counts = json.loads(run("plan", "study.yaml", *OPTIONS, "--json"))
    assert counts["asked_for"] == 2
    status = json.loads(run("status", "study.yaml", *OPTIONS, "--json"))
    assert (status["done"], status["missing"]) == (1, 1)
    assert TITLE in run("table", "study.yaml", *OPTIONS)
    assert "2 trials: 1 done, 1 missing" in run("launch", "study.yaml", *OPTIONS, "--dry-run")
    assert "Nothing to retry" in run("retry", "study.yaml", *OPTIONS)
    drawn = run("plot", "study.yaml", *OPTIONS, "--kind", "bars", "--format", "svg")
    assert TITLE.encode() in Path(drawn.strip()).read_bytes()
    why = run("why", "cosine", "1", "study.yaml", *OPTIONS)
    assert "Test Error (%): 7.00, the only run" in why
    launches = [line.split() for line in why.splitlines() if line.startswith("  gridrun launch")]
    assert all({"--set=lr=0.2", "--seeds=2"} <= set(words) for words in launches)
    assert len(launches) == 2
    (table,) = gridrun.load_tables(
        "study.yaml", set={"lr": 0.2}, seeds=2, where={"schedule": "cosine", "batch_size": 64}
    )
    assert (table.title, table.lines[0].cells["test_error"].median) == (TITLE, 0.07)


def test_a_marker_takes_them_too(store: Store, tmp_path: Path) -> None:
    words = "--set lr=0.2 --seeds 2 --where schedule=cosine --where batch_size=64 --results results"
    readme = tmp_path / "README.md"
    readme.write_text(
        f"<!-- gridrun table study.yaml --table cosine {words} -->\n<!-- end -->\n"
        f"<!-- gridrun plot study.yaml --kind bars --format svg --out . {words} -->\n<!-- end -->\n"
    )
    run("table", "--readme", readme)
    text = readme.read_text()
    assert f"### {TITLE}" in text
    assert "7.00 (1 of 2 runs)" in text
    assert f"![{TITLE}](study_bars_" in text
    run("table", "--readme", readme, "--check")
