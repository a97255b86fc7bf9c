"""A results directory of somebody else: read like one's own, and never half."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridrun.grid import load_grid
from gridrun.store import Store
from gridrun.store.records import Record

ROOT = Path(__file__).parent.parent
GRID = """
base:
  model: {name: resnet_preact, depth: 8, initial_channels: 4}
  train_size: 100
  batch_size: 50
  epochs: 1
axes: [{lr: [0.1, 0.2]}]
"""
POWERLESS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all"]
"""What may be read and written is asked of root, too, then."""


def gridrun(directory: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    powerless = POWERLESS if os.geteuid() == 0 else []
    return subprocess.run(
        [*powerless, sys.executable, str(ROOT / "cli.py"), *map(str, arguments)],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """Return a directory with a grid and its results, which are closed, one not yet compacted."""
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may read and write everything, and there is no setpriv")
    (tmp_path / "grid.yaml").write_text(GRID)
    store = Store(tmp_path / "results")
    store.create()
    for trial in load_grid(tmp_path / "grid.yaml").trials:
        store.compact(now=True)
        record = Record(
            trial_id=trial.trial_id,
            config_id=trial.config_id,
            seed=trial.seed,
            status="done",
            config=trial.config.flat(),
            config_json=json.dumps(trial.config.canonical()),
            ended_at="2026-01-01T00:00:00+00:00",
            test_error=0.25,
        )
        store.add(record)
    directories = [store.root, *(path for path in store.root.rglob("*") if path.is_dir())]
    for directory in directories:
        directory.chmod(0o555)
    yield tmp_path
    for directory in directories:
        directory.chmod(0o755)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("status", "2 done; nothing is running\n"),
        ("plan grid.yaml", "2 trials: 2 done\n"),
        ("table grid.yaml", "### grid\n"),
        ("why grid 2 grid.yaml", "grid: row 2 of 2 of grid, grid.yaml\n"),
        ("launch grid.yaml", "### grid\n"),
        ("retry grid.yaml", ""),
    ],
)
def test_who_has_nothing_to_write_needs_no_leave_to_write(command: str, shown: str, closed: Path) -> None:
    done = gridrun(closed, *command.split())
    assert (done.returncode, done.stdout[: len(shown)]) == (0, shown), done.stderr


def test_a_launch_that_has_something_to_do_is_refused(closed: Path) -> None:
    done = gridrun(closed, "launch", "grid.yaml", "--seeds", "2", "--executor", "serial")
    assert done.returncode == 2
    assert done.stderr.endswith(
        f"Error: {closed}/results: cannot be written to (Permission denied: {closed}/results/.work)\n"
    )


@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_records_that_may_not_be_read_are_not_taken_for_none(mode: int, closed: Path) -> None:
    ended = closed / "results" / ".work" / "ended"
    ended.chmod(mode)
    for command in ("status", "launch grid.yaml"):
        done = gridrun(closed, *command.split())
        assert (done.returncode, done.stdout) == (2, "")
        assert f"Error: {ended}" in done.stderr
        assert "cannot be read (Permission denied)" in done.stderr
