"""Modules of one's own that cannot be imported: in a copy of the program, as a user would break it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HALF = """
from dataclasses import dataclass
from trainer.schedules import schedules
from trainer.schedules.cosine import Cosine

@schedules.register("half")
@dataclass(frozen=True, kw_only=True, slots=True)
class Half(Cosine):
    '''Registered before the error.'''

missing.name
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("trainer", "gridrun"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "cli.py", tmp_path)
    schedules = tmp_path / "trainer" / "schedules"
    (schedules / "syntax.py").write_text("x = 1\ndef broken(:\n")
    (schedules / "half.py").write_text(HALF)
    (schedules / "sound.py").write_text(HALF.replace("half", "sound").replace("missing.name", ""))
    return tmp_path


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "cli.py", *arguments]
    return subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)


def plan(copy: Path, schedule: str) -> str:
    grid = f"base: {{model: {{name: resnet, depth: 20}}, epochs: 1, schedule: {schedule}}}\n"
    (copy / "g.yaml").write_text(grid)
    return run(copy, "plan", "g.yaml").stderr


def test_a_broken_module_names_itself_and_harms_no_other(copy: Path) -> None:
    assert plan(copy, "sound") == ""
    broken = (
        "trainer/schedules/half.py:11: NameError: name 'missing' is not defined. "
        "trainer/schedules/syntax.py:2: SyntaxError: "
    )
    for name in ("half", "syntax"):
        assert f"schedule: unknown schedule '{name}'. {broken}" in plan(copy, name)
    assert f"unknown schedule 'cosin'. Did you mean 'cosine'? {broken}" in plan(copy, "cosin")

    listed = run(copy, "list", "schedules")
    assert listed.returncode == 2
    assert "sound " in listed.stdout
    assert "half" not in listed.stdout
    assert listed.stderr.count("Error: trainer/schedules/") == 2
