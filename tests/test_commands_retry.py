"""`gridrun retry`, and the settings for failures in grids and on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import cli
from gridrun.store import Store
from gridrun.store.launches import LaunchState
from gridrun.text import utc_now

GRID = """
base:
  model: {name: resnet_preact, depth: 8, initial_channels: 4}
  epochs: 1
axes:
  - lr: [0.1, 0.2, 1000000000000000000.0]
"""


@pytest.fixture
def grid(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRIDRUN_CACHE", str(cache_dir))
    monkeypatch.setenv("GRIDRUN_RESULTS", str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(GRID)
    return path


def gridrun(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def sweep(*arguments: object) -> Result:
    """Run a command that trains, in this process."""
    return gridrun(*arguments, "--executor", "serial", "--gpus", 0)


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that makes trials with this learning rate fail, until it is called again."""
    from trainer import loop

    train, broken = loop.train, {0.0}

    def breaks(config: Any, **options: Any) -> Any:
        if config.lr in broken:
            raise ArithmeticError(f"no such number as {config.lr}")
        return train(config, **options)

    monkeypatch.setattr(loop, "train", breaks)

    def break_at(lr: float) -> None:
        broken.clear()
        broken.add(lr)

    return break_at


def ends(tmp_path: Path) -> dict[float, tuple[str, int]]:
    """Return status and attempts of each trial, by its learning rate."""
    rows = Store(tmp_path / "results").rows().values()
    return {row["lr"]: (row["status"], row["attempts"]) for row in rows}


def test_retry_runs_only_the_statuses_asked_for(
    grid: Path, tmp_path: Path, breaking: Callable[[float], None]
) -> None:
    breaking(0.2)
    launched = sweep("launch", grid)
    assert launched.exit_code == 1
    store = tmp_path / "results"
    assert f"`gridrun retry {grid} --results {store} --failed` retries them" in launched.stderr
    assert ends(tmp_path) == {0.1: ("done", 1), 0.2: ("failed", 1), 1e18: ("diverged", 1)}

    diverged = sweep("retry", "--diverged", grid)
    assert ends(tmp_path) == {0.1: ("done", 1), 0.2: ("failed", 1), 1e18: ("diverged", 2)}
    assert diverged.exit_code == 0, "the one that is still failed was not asked for"
    assert "### small" in diverged.stdout

    breaking(0.0)
    retried = sweep("retry", "--failed")  # of the whole store
    assert retried.exit_code == 0, retried.output
    assert re.fullmatch(r"[0-9a-f]{16}  done: test error \d+\.\d\d %\n", retried.stdout)
    assert ends(tmp_path) == {0.1: ("done", 1), 0.2: ("done", 2), 1e18: ("diverged", 2)}

    sweep("retry")  # both kinds
    assert ends(tmp_path)[1e18] == ("diverged", 3)
    nothing = sweep("retry", "--failed")
    assert (nothing.exit_code, nothing.stderr) == (0, "Nothing to retry: no trial has failed.\n")


def test_retry_leaves_missing_trials_alone(
    grid: Path, tmp_path: Path, breaking: Callable[[float], None]
) -> None:
    breaking(0.1)
    first, second = (
        each["trial_id"] for each in json.loads(gridrun("plan", grid, "--json").stdout)["order"][:2]
    )
    assert sweep("launch", grid, "--only", first).exit_code == 1
    assert sweep("retry", grid).exit_code == 1
    assert ends(tmp_path) == {0.1: ("failed", 2)}
    other = sweep("launch", grid, "--only", second)
    assert other.exit_code == 0, "the trial that failed before is no part of this launch"
    assert "retries them" not in other.stderr
    assert sweep("launch", grid, "--only", first).exit_code == 1


def test_retry_names_and_leaves_out_trials_of_another_version(
    grid: Path, tmp_path: Path, breaking: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import trainer

    breaking(0.2)
    sweep("launch", grid)
    monkeypatch.setattr(trainer, "VERSION", trainer.VERSION + 1)
    retried = sweep("retry", "--failed")
    assert "is left out: this version trains it differently" in retried.stderr
    assert ends(tmp_path)[0.2] == ("failed", 1)


def test_retries_on_the_command_line_win_over_the_grid(
    grid: Path, tmp_path: Path, breaking: Callable[[float], None]
) -> None:
    breaking(0.2)
    grid.write_text(GRID + "retries: 2\n")
    launched = sweep("launch", grid)
    assert launched.stderr.count("no such number as 0.2; will retry") == 2
    assert ends(tmp_path)[0.2] == ("failed", 3)
    assert "failed (exception, 3 attempts): ArithmeticError: no such number" in gridrun("status").stdout
    sweep("launch", grid, "--retries", 3)
    assert ends(tmp_path)[0.2] == ("failed", 4)


def test_a_plan_shows_what_the_next_launch_retries(
    grid: Path, tmp_path: Path, breaking: Callable[[float], None]
) -> None:
    breaking(0.2)
    sweep("launch", grid)
    assert "3 trials: 1 done, 1 diverged, 1 failed\n" in gridrun("plan", grid).stdout
    assert gridrun("plan", grid).stdout.count("\n") == 1, "nothing to start"
    grid.write_text(GRID + "retries: 1\n")
    for command in (["plan", grid], ["launch", grid, "--dry-run"]):
        shown = gridrun(*command).stdout
        assert "3 trials: 1 done, 1 diverged, 1 to be tried again\n" in shown
        assert shown.count("lr 0.2") == 1, "in the order"
    assert "1 failed" in gridrun("launch", grid, "--dry-run", "--retries", 0).stdout
    found = json.loads(gridrun("plan", grid, "--json").stdout)
    assert (found["failed"], found["to_be_tried_again"], len(found["order"])) == (0, 1, 1)
    assert "2 trials: 2 to be tried again\n" in gridrun("launch", grid, "--dry-run", "--retry").stdout
    launched = sweep("launch", grid)
    assert launched.exit_code == 1
    assert "1 failed" in gridrun("plan", grid).stdout


def test_status_counts_trials_that_a_launch_will_retry_apart(
    grid: Path, tmp_path: Path, breaking: Callable[[float], None]
) -> None:
    breaking(0.2)
    sweep("launch", grid)
    store = Store(tmp_path / "results")
    (failed,) = (i for i, status in store.statuses().items() if status == "failed")
    store.launches.write("0", LaunchState(started_at=utc_now(), total=1, again=(failed,)))
    for shown in (gridrun("status").stdout, gridrun("status", grid).stdout):
        assert "1 done" in shown
        assert "1 to be tried again" in shown
        assert "failed" not in shown
    store.launches.write("0", LaunchState(started_at=utc_now(), total=1))
    assert "1 done, 1 diverged, 1 failed; 1 launch running" in gridrun("status", grid).stdout


def test_a_grid_can_stop_a_launch_after_failures(grid: Path, breaking: Callable[[float], None]) -> None:
    breaking(0.1)
    grid.write_text(GRID + "stop_after_failures: 1\n")
    launched = sweep("launch", grid)
    assert launched.exit_code == 1
    assert "1 failed, 2 missing of 3 trials" in launched.stderr
    assert "Stopped: 1 trial in a row failed." in launched.stderr
    assert "1 done, 1 diverged, 1 failed" in sweep("launch", grid).stderr, "the other trials had not run yet"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("retries: -1", "retries: must be a whole number >= 0, got -1"),
        ("retries: two", "retries: must be a whole number >= 0, got"),
        ("stop_after_failures: 0", "stop_after_failures: must be a whole number >= 1, got 0"),
        ("gpus_per_trial: 1.5", "gpus_per_trial: must be"),
        ("gpus_per_trial: all", "gpus_per_trial: must be"),
        ("retry: 1", "Did you mean 'retries'?"),
    ],
)
def test_impossible_values_in_a_grid_are_refused(grid: Path, line: str, problem: str) -> None:
    grid.write_text(f"{GRID}{line}\n")
    refused = gridrun("plan", grid)
    assert refused.exit_code == 2
    assert problem in refused.stderr
    assert "small.yaml:7" in refused.stderr


def test_grids_that_contradict_each_other_stop_plan_dry_run_and_launch(grid: Path, tmp_path: Path) -> None:
    grid.write_text(GRID + "retries: 1\n")
    other = tmp_path / "other.yaml"
    other.write_text(GRID + "retries: 2\n")
    commands = (["plan"], ["launch", "--dry-run"], ["launch", "--executor", "serial"])
    results = [gridrun(*command, grid, other) for command in commands]
    assert [result.exit_code for result in results] == [2, 2, 2]
    (message,) = {result.stderr for result in results}
    assert f"retries: {grid} says 1, {other} says 2; plan and launch them one at a time" in message
    assert "let --retries decide" in message
    assert gridrun("launch", "--dry-run", "--retries", 1, grid, other).exit_code == 0


def test_grids_that_nobody_named_together_may_contradict_each_other(grid: Path, tmp_path: Path) -> None:
    for name, retries in (("one", 1), ("two", 2)):
        (tmp_path / "grids").mkdir(exist_ok=True)
        (tmp_path / "grids" / f"{name}.yaml").write_text(f"{GRID}retries: {retries}\n")
    plan = gridrun("plan")
    assert plan.exit_code == 0, plan.output
    assert plan.stdout.startswith("3 trials: 3 missing\n")
    assert gridrun("plan", "grids/one.yaml", "grids/two.yaml").exit_code == 2
