"""From a row of a table to its trials, and the commands that train them again."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from all_grids import GRIDS
from by_hand import Spec, build
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

import cli
from gridrun.errors import GridrunError
from gridrun.grid import load_grid, lone_trial
from gridrun.metrics import METRICS
from gridrun.store import Store
from gridrun.store.records import Provenance, Record
from gridrun.tables.build import make_cell
from gridrun.tables.model import Cell, Line, Table
from gridrun.tables.why import computation, find_line, train_command
from gridrun.trial import Trial

ROOT = Path(__file__).parent.parent

GRID = """\
title: Warm-up
source: a paper
base: {model: {name: resnet_preact, depth: 8}, epochs: 2}
axes:
  - cases:
      - {name: plain, published: {test_error: 6.1, runs: 5, note: on a P100}}
      - {name: with warm-up, warmup: {name: linear, epochs: 1}}
      - {name: large, batch_size: 512, seeds: 1}
seeds: 4
tables:
  - id: warmup
    columns: [name, model, batch_size, test_error, train_time]
  - id: elsewhere
    title: Reported elsewhere
    columns: [name, test_error]
    reported: [{name: theirs, test_error: 5.5}]
  - id: both
    title: Reported beside ours
    where: {name: [plain, large]}
    columns: [name, batch_size, test_error]
    reported: [{name: theirs, test_error: 5.5}, {batch_size: 64, test_error: 5.6}]
"""
CODE = Provenance(commit="c" * 40, dirty=True, gpu="NVIDIA H200", device="cuda", host="box")


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a grid of which one row has run in full, one in part and one not at all."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDRUN_RESULTS", raising=False)
    path = Path("warmup.yaml")
    path.write_text(GRID)
    plain, warm, _ = load_grid(path).rows
    store = Store("results")
    store.create()
    for seed, error in enumerate((0.06, 0.058, 0.062, 0.0595)):
        store.add(record(plain.trials[seed], test_error=error, train_seconds=60.0))
    store.add(
        record(warm.trials[0], test_error=0.05, train_seconds=61.0, notes="moved from cpu to H200 at step 9")
    )
    store.add(record(warm.trials[2], status="failed", error="out of memory\x1b[31m"))
    return path


def record(trial: Trial, status: Any = "done", **fields: Any) -> Record:
    return Record(
        trial_id=trial.trial_id,
        config_id=trial.config_id,
        seed=trial.seed,
        status=status,
        config=trial.config.flat(),
        config_json=json.dumps(trial.config.canonical()),
        ended_at="2026-02-03T04:05:06.000000+00:00",
        provenance=CODE,
        **fields,
    )


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def ok(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def why(*arguments: object) -> dict[str, Any]:
    return json.loads(ok("why", *arguments, "--json"))


def test_a_row_that_has_run(grid: Path) -> None:
    ids = [trial.trial_id for trial in load_grid(grid).rows[0].trials]
    told = ok("why", "warmup", 1, grid)
    lines = told.splitlines()
    assert lines[:2] == [
        "Warm-up: row 1 of 3 of warmup, warmup.yaml",
        f"plain, batch size 128, config {load_grid(grid).rows[0].config_id}",
    ]
    assert lines[3:6] == [
        f"seed 0  {ids[0]}  done, Test Error 6.00 %, Training Time 1m00s",
        "  commit cccccccccc with uncommitted changes, NVIDIA H200 (box), 2026-02-03 04:05:06",
        "  FP32, 2 epochs",
    ]
    assert "Test Error (%): 5.98, median of 5.80, 5.95, 6.00, 6.20: the mean of 5.95 and 6.00" in lines
    assert any(line.startswith("  published: 6.10 (5 runs); difference -0.12") for line in lines)
    assert "written at: warmup.yaml:6" in lines
    assert "source: a paper" in lines
    assert "note: on a P100" in lines
    assert "to train the trials that are not done:" not in told


def test_a_row_that_has_run_in_part(grid: Path) -> None:
    ids = [trial.trial_id for trial in load_grid(grid).rows[1].trials]
    told = ok("why", "warmup", "with warm-up", grid)
    assert f"seed 1  {ids[1]}  not run\n" in told
    assert f"seed 2  {ids[2]}  failed\n" in told
    assert "  out of memory[31m\n" in told
    assert "  moved from cpu to H200 at step 9\n" in told
    found = why("warmup", 2, grid)
    assert [one["status"] for one in found["runs"]] == ["done", "not run", "failed", "not run"]
    assert (
        found["rest"] == f"gridrun launch warmup.yaml --only {ids[1]} --only {ids[2]} --only {ids[3]} --retry"
    )
    assert found["again"] == f"gridrun launch warmup.yaml --only {ids[0]} --results results/again"


def test_a_row_that_has_not_run(grid: Path) -> None:
    found = why("warmup", 3, grid)
    (only,) = found["runs"]
    assert (only["status"], only["values"], found["again"]) == (
        "not run",
        {"test_error": None, "train_time": None},
        None,
    )
    assert found["rest"] == f"gridrun launch warmup.yaml --only {only['trial_id']}"
    assert "Test Error (%): no run is done" in ok("why", "warmup", 3, grid)


def test_a_row_that_is_only_reported(grid: Path) -> None:
    told = ok("why", "elsewhere", 1, grid)
    assert "as published, not trained here\n" in told
    assert "  published: 5.50\n" in told
    assert why("elsewhere", "theirs", grid)["runs"] == []
    told = ok("why", "both", 4, grid)
    assert "row 4 of 4 of both" in told
    assert told.splitlines()[1].startswith("64")
    assert "  published: 5.60\n" in told
    assert why("both", 2, grid)["about"] == "large, batch size 512"
    assert why("both", 3, grid)["about"] == "theirs"


def test_json_has_it_all(grid: Path) -> None:
    found = why("warmup", "plain", grid)
    assert (found["table"], found["row"], found["rows"], found["grid"]) == ("warmup", 1, 3, "warmup.yaml")
    assert found["cells"]["test_error"]["median"] == pytest.approx(0.05975)
    first = found["runs"][0]
    assert first["values"] == {"test_error": 0.06, "train_time": 60.0}
    assert (first["commit"], first["dirty"], first["machine"], first["host"]) == (
        "c" * 40,
        True,
        "NVIDIA H200",
        "box",
    )
    assert (first["precision"], first["epochs"], first["ended_at"][:10]) == ("fp32", 2, "2026-02-03")


def test_ways_to_name_a_table_and_a_row(grid: Path) -> None:
    config = load_grid(grid).rows[2].config_id
    for table in ("warmup", "WARMUP", "Warm-up", "warm"):
        for row in ("3", "large", "LAR", config, config[:5], config[:4].upper()):
            assert why(table, row, grid)["row"] == 3


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        ("warmpu", 1, "there is no table 'warmpu'. Did you mean 'warmup'?"),
        ("warmup", 4, "table 'warmup' has no row 4; its rows are 1 to 3"),
        ("warmup", 0, "has no row 0; its rows are 1 to 3"),
        ("warmup", "plane", "table 'warmup' has no row 'plane'. Did you mean 'plain'?"),
        (
            "warmup",
            "ResNet-preact-8",
            "'ResNet-preact-8' matches rows 1, 2, 3 of 'warmup'; give one number",
        ),
        ("rep", 1, "'rep' matches several tables: elsewhere in warmup.yaml, both in warmup.yaml"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(grid: Path, table: str, row: object, message: str) -> None:
    result = run("why", table, row, grid)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def table_of_lines(*lines: tuple[str, dict[str, Any]]) -> Table:
    """Return a table of nothing but lines: their config ids, and their options."""
    made = tuple(Line(config_id=one, name=None, options=options, cells={}) for one, options in lines)
    table = build(Spec(()), [0])
    return dataclasses.replace(table, lines=made)


def test_a_text_of_digits_is_a_number_where_there_is_such_a_row_else_the_beginning_of_an_id() -> None:
    ids = ["12ab000000000000", "1234500000000000", "0001000000000000"]
    few = table_of_lines(*((one, {}) for one in ids))
    found = {text: find_line(few, text) for text in ("1", "3", "1234", "12345", "0001", "12ab")}
    assert found == {"1": 0, "3": 2, "1234": 1, "12345": 1, "0001": 2, "12ab": 0}
    for text, problem in (("12", "has no row 12; its rows are 1 to 3"), ("5555", "has no row '5555'")):
        with pytest.raises(GridrunError, match=problem):
            find_line(few, text)
    many = table_of_lines(*((f"{number:016x}", {}) for number in range(16**4, 16**4 + 1000)))
    assert find_line(many, "1000") == 999
    with pytest.raises(GridrunError, match="matches rows"):
        find_line(many, "0000")


def test_names_are_texts_and_two_rows_of_one_name_are_refused() -> None:
    table = table_of_lines(("a" * 16, {"name": 96.0}), ("b" * 16, {"name": "two"}), ("", {"model": "two"}))
    with pytest.raises(GridrunError, match="'two' matches rows 2, 3 of 'linear_scaling'; give one number"):
        find_line(table, "two")
    with pytest.raises(GridrunError, match=r"has no row '96\.0'"):
        find_line(table, "96.0")


def planned(command: str) -> set[str]:
    """Return the trials that a launch command would train."""
    program, *arguments = shlex.split(command)
    assert program == "gridrun"
    return set(re.findall(r"^  ([0-9a-f]{16})  ", ok(*arguments, "--dry-run"), re.MULTILINE))


def test_launch_commands_train_these_trials(grid: Path) -> None:
    whole, part = why("warmup", 1, grid), why("warmup", 2, grid)
    assert planned(whole["again"]) == {one["trial_id"] for one in whole["runs"]}
    assert planned(part["rest"]) == {part["runs"][seed]["trial_id"] for seed in (1, 2, 3)}
    assert "3 trials: 1 to be tried again, 2 missing" in ok(*shlex.split(part["rest"])[1:], "--dry-run")
    assert whole["rest"] is None


def test_commands_name_the_seeds_that_a_row_has_got(grid: Path) -> None:
    grid.write_text(GRID.replace("seeds: 4", "seeds: {min: 3, max: 4, looks: [3, 4]}"))
    assert len(load_grid(grid).rows[0].seeds) == 3
    found = why("warmup", 1, grid)
    assert len(found["runs"]) == 4
    assert planned(found["again"]) == {one["trial_id"] for one in found["runs"]}


def test_commands_keep_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = why("lars_256_reduced", 1, "grids/lars.yaml", "--profile", "reduced", "--results", "results/x y")
    assert found["rest"].endswith("--results 'results/x y'")
    assert planned(found["rest"]) == {one["trial_id"] for one in found["runs"]}


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.name)
def test_train_commands_train_these_trials(path: Path) -> None:
    grids = [load_grid(path)]
    grids += [load_grid(path, profile=name) for name in grids[0].profiles]
    for row in (row for grid in grids for row in grid.rows):
        command = train_command(row.config, row.seeds[-1])
        assert "\n" not in command
        gridrun, train, *settings = shlex.split(command)
        assert (gridrun, train, settings[-2:]) == ("gridrun", "train", ["--results", "results/again"])
        assert lone_trial(settings[:-2]).trials == (row.trials[-1],)


def cell(*values: float) -> Cell:
    return make_cell("test_error", dict(enumerate(values)), 3, None)


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("num_params", (10, 10), "of every run"),
        ("num_params", (10,), "of every run"),
        ("num_params", (10, 20), "median of 10, 20: the mean of 10 and 20"),
        ("num_params", (), "no run is done"),
        ("test_error", (0.05, 0.05), "median of 5.00, 5.00: the mean of 5.00 and 5.00"),
        ("test_error", (0.05,), "the only run"),
        ("test_error", (0.07, 0.05, 0.06), "median of 5.00, 6.00, 7.00"),
        ("test_error", (), "no run is done"),
    ],
)
def test_the_computation_in_words(name: str, values: tuple[float, ...], text: str) -> None:
    cell = make_cell(name, dict(enumerate(values)), 3, None)
    assert computation(METRICS[name], cell) == text


@given(st.lists(st.integers(0, 10000), max_size=8))
def test_the_computation_gives_the_median(values: list[int]) -> None:
    of = cell(*(value / 10000 for value in values))
    told = computation(METRICS["test_error"], of)
    if len(values) < 2:
        assert told == ("the only run" if values else "no run is done")
        return
    middle = told.partition(": the mean of ")[2].split(" and ") if len(values) % 2 == 0 else None
    listed = re.findall(r"[\d.]+", told.partition(":")[0])
    assert listed == [f"{value / 100:.2f}" for value in sorted(values)]
    middle = middle or [listed[len(listed) // 2]]
    assert of.median == pytest.approx(sum(map(float, middle)) / len(middle) / 100)
