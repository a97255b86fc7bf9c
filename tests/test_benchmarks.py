"""Benchmarks that prove rather than measure, in short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import mutants

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(name: str, *arguments: str, cache_dir: Path) -> str:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / name, *arguments],
        env={**os.environ, "GRIDRUN_CACHE": str(cache_dir), "PYTHONPATH": str(BENCHMARKS.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_mutant_is_another_program() -> None:
    module = "gridrun/verdicts.py"
    changed = [mutants.mutate(module, place) for place in range(mutants.places(module))]
    assert len(changed) > 50
    assert len({source for source, _ in changed}) == len(changed)
    for source, about in changed:
        compile(source, module, "exec")
        assert about.startswith(f"{module}:")
    for module, names in mutants.TESTS.items():
        assert mutants.places(module), module
        assert all((BENCHMARKS.parent / f"tests/test_{name}.py").is_file() for name in names.split()), names


@pytest.mark.slow
def test_sweeps_survive_what_is_killed_in_them(cache_dir: Path) -> None:
    said = run("kill_matrix.py", "--kills", "6", "--seed", "3", cache_dir=cache_dir)
    assert "trials that differ 0, lost 0, trained twice 0" in said


@pytest.mark.slow  # tests/test_sweep.py has two launches at once, too
def test_two_launches_at_once_train_each_trial_once(cache_dir: Path) -> None:
    said = run("two_launches.py", "--repetitions", "3", cache_dir=cache_dir)
    assert "3 repetitions of two launches of 12 trials: 0 with a problem" in said
