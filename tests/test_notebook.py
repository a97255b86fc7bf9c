"""Results in a notebook: `import gridrun` and data frames."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from test_store import record

import gridrun
from gridrun.errors import GridError, GridrunError, StoreError
from gridrun.grid import load_grid
from gridrun.store import Store
from gridrun.store.records import Record
from gridrun.trial import Trial

ROOT = Path(__file__).parent.parent
GRID = """\
title: A grid
base: {model: {name: resnet_preact, depth: 8}, epochs: 2, dataset: digits}
axes: [{batch_size: [32, 64]}]
seeds: 3
profiles: {tiny: {scale: {epochs: 1}}}
tables:
  - columns: [model, batch_size, test_error, num_params]
    published: [{batch_size: 32, test_error: 25, runs: 3}]
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    store.create()
    return store


def test_importing_gridrun_imports_no_pandas() -> None:
    code = (
        "import sys, gridrun; print(sorted({'pandas', 'pyarrow', 'torch', 'ray', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_there_is_is_listed_and_nothing_else_is_there() -> None:
    assert {"load_epochs", "load_results", "load_tables"} <= set(dir(gridrun))
    with pytest.raises(AttributeError, match="no attribute 'load_result'"):
        _ = gridrun.load_result


# --- trials and epochs -------------------------------------------------------------------------


def test_results_are_there_before_and_after_compaction(store: Store) -> None:
    store.add(record(1, depth=20))
    store.compact(now=True)
    store.add(record(2, width=1.5))
    for _ in range(2):
        frame = gridrun.load_results(store.root)
        assert list(frame["trial_id"]) == [f"{1:016x}", f"{2:016x}"]
        assert list(frame["test_error"]) == [0.001, 0.002]
        assert list(frame["depth"].isna()) == [False, True]
        assert frame["depth"].dtype == "Int64"
        assert frame["width"].dtype == float
        assert list(gridrun.load_epochs(store.root)["epoch"]) == [1, 2, 1, 2]
        store.compact(now=True)


def test_types_are_there_before_any_value(store: Store) -> None:
    frame = gridrun.load_results(store.root)
    assert frame.empty
    assert (frame["seed"].dtype, frame["dirty"].dtype, frame["test_error"].dtype) == (
        "Int64",
        "boolean",
        float,
    )
    assert gridrun.load_epochs(store.root).empty


def test_a_trial_run_again_stands_there_once(store: Store) -> None:
    store.add(record(1, "failed", at=1, epochs=1))
    store.compact(now=True)
    store.add(record(1, "done", at=2, epochs=3))
    assert list(gridrun.load_results(store.root)["status"]) == ["done"]
    assert list(gridrun.load_epochs(store.root)["epoch"]) == [1, 2, 3]


def test_the_frame_is_the_file(store: Store) -> None:
    for number in range(3):
        store.add(record(number))
    store.compact(now=True)
    frame, file = gridrun.load_results(store.root), pd.read_parquet(store.trials_path)
    assert set(file.columns) < set(frame.columns)
    times = ["started_at", "ended_at"]
    same = frame[file.columns].drop(columns=times)
    pd.testing.assert_frame_equal(same, file.drop(columns=times).astype(same.dtypes.to_dict()))
    assert {str(frame[name].dtype).partition("[")[0] for name in times} == {"datetime64"}
    assert frame["ended_at"].dt.tz is not None
    assert frame["ended_at"].isna().sum() == 0


def test_an_empty_store_has_the_columns_of_a_full_one(store: Store) -> None:
    frame = gridrun.load_results(store.root)
    assert {"model", "model_label", "setting", "lr", "batch_size", "test_error"} <= set(frame.columns)
    assert (frame["lr"].dtype, frame["batch_size"].dtype) == (float, "Int64")
    assert frame.groupby(["config_id", "setting"])["test_error"].median().empty
    assert frame.groupby(["model", "batch_size", "lr"])["test_error"].median().empty


def test_groups_are_named_and_hold_nothing_but_seeds() -> None:
    trials = gridrun.load_results(ROOT / "results" / "readme")
    medians = trials.groupby(["config_id", "setting"])["test_error"].median()
    assert len(medians) == trials["config_id"].nunique()
    assert trials["setting"].notna().all()
    assert "ResNet-preact-8" in set(trials["model_label"])
    assert "seed" not in trials.loc[0, "setting"]
    grids = [ROOT / "grids" / "quickstart.yaml"]
    own = gridrun.load_results(ROOT / "results" / "readme", grids=grids)
    assert 0 < len(own) < len(trials)
    assert own["grid"].unique().tolist() == ["quickstart"]
    assert set(own["trial_id"]) <= {trial.trial_id for trial in load_grid(grids[0]).trials}


def test_a_row_has_the_name_of_its_case(grid: Path, store: Store) -> None:
    grid.write_text(
        GRID.replace(
            "axes: [{batch_size: [32, 64]}]",
            """axes:
  - cases: [{name: small, batch_size: 32}, {batch_size: 64}]""",
        )
    )
    frame = gridrun.load_results(store.root, grids=grid)
    assert frame.groupby("batch_size")["case"].agg(lambda names: set(names.dropna())).to_dict() == {
        32: {"small"},
        64: set(),
    }


def test_a_directory_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    for load in (gridrun.load_results, gridrun.load_epochs):
        with pytest.raises(StoreError, match="no such results directory"):
            load(tmp_path / "nowhere")


# --- tables ------------------------------------------------------------------------------------


def done(trial: Trial, test_error: float) -> Record:
    return Record(
        trial_id=trial.trial_id,
        config_id=trial.config_id,
        seed=trial.seed,
        status="done",
        config=trial.config.flat(),
        config_json="{}",
        ended_at="2026-01-01T00:00:00+00:00",
        test_error=test_error,
        num_params=100,
    )


@pytest.fixture
def grid(tmp_path: Path, store: Store) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    for trial, error in zip(load_grid(path).trials, [0.25, 0.5, 0.75, 0.125], strict=False):
        store.add(done(trial, error))
    return path


def test_a_table_is_a_frame_of_medians(grid: Path, store: Store) -> None:
    (table,) = gridrun.load_tables(grid, results=store.root)
    frame = table.to_frame()
    assert list(frame.columns) == [
        "model", "batch_size", "runs", "test_error", "test_error_min", "test_error_max", "test_error_std",
        "published_test_error", "test_error_difference", "test_error_half_width", "test_error_verdict",
        "num_params",
    ]  # fmt: skip
    assert frame["batch_size"].tolist() == [32, 64]
    assert frame["runs"].tolist() == [3, 1]
    assert frame.loc[0, ["test_error", "test_error_min", "test_error_max"]].tolist() == [0.5, 0.25, 0.75]
    assert frame.loc[0, "test_error_std"] == 0.25
    assert frame["published_test_error"].isna().tolist() == [False, True]
    assert frame.loc[0, ["published_test_error", "test_error_difference"]].tolist() == [0.25, 0.25]
    assert frame["test_error_verdict"].isna().all()  # of 3 runs, nobody can tell
    assert frame["test_error_std"].isna().tolist() == [False, True]


def test_a_notebook_shows_the_readmes_table(grid: Path, store: Store) -> None:
    (table,) = gridrun.load_tables(grid, results=store.root)
    assert table.to_markdown() == table._repr_markdown_()
    assert "| ResNet-preact-8 |         32 |" in table.to_markdown()


def test_tables_of_a_reduced_form(grid: Path, store: Store) -> None:
    for how in ({"profile": "tiny"}, {"scale": {"epochs": 1}}, {"scale": "epochs=1"}):
        (table,) = gridrun.load_tables(grid, results=store.root, **how)
        assert "1 epoch, 1,442 images of digits" in table.title
        assert table.to_frame()["runs"].tolist() == [0, 0]


def test_the_store_is_the_one_of_the_command_line(
    grid: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDRUN_RESULTS", str(store.root))
    monkeypatch.chdir(tmp_path.parent)
    assert len(gridrun.load_results()) == 4
    assert gridrun.load_epochs().empty
    assert gridrun.load_tables(grid)[0].to_frame()["runs"].tolist() == [3, 1]
    with pytest.raises(StoreError, match="none: no such results directory"):
        gridrun.load_results(tmp_path / "none")
    monkeypatch.delenv("GRIDRUN_RESULTS")
    with pytest.raises(StoreError, match=r"^results: no such results directory$"):
        gridrun.load_results()
    monkeypatch.chdir(tmp_path)
    assert len(gridrun.load_results()) == 4


def test_mistakes_are_named(grid: Path, store: Store, tmp_path: Path) -> None:
    with pytest.raises(GridrunError, match="needs a grid file"):
        gridrun.load_tables(results=store.root)
    with pytest.raises(GridError, match="no such file"):
        gridrun.load_tables(tmp_path / "none.yaml", results=store.root)
    with pytest.raises(StoreError, match=r"no such results directory. Did you mean 'results'\?"):
        gridrun.load_tables(grid, results=tmp_path / "result")
    with pytest.raises(GridrunError, match="takes paths of grid files, each its own argument"):
        gridrun.load_tables([grid], results=store.root)
    for scale, problem in (
        ("epochs", "--scale: must be KEY=VALUE, such as epochs=0.05, got 'epochs'"),
        ("epoch=1", "--scale: epoch: unknown key. Did you mean 'epochs'?"),
        ({"epoch": 1}, "--scale: epoch: unknown key. Did you mean 'epochs'?"),
        (0.05, "scale must be a mapping or text such as 'epochs=0.05,train=4000', got 0.05"),
    ):
        with pytest.raises(GridrunError, match=re.escape(problem)):
            gridrun.load_tables(grid, results=store.root, scale=scale)
    with pytest.raises(GridError, match="has no profile 'tyni'"):
        gridrun.load_tables(grid, results=store.root, profile="tyni")
