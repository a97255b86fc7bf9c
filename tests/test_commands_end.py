"""How the process of a command ends that has loaded Ray: at once, but not before all is done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = """
import atexit, sys, types
import click
from cli import main

def command(*arguments, **options):  # in place of any command
    atexit.register(print, "registered by the command")
    raise SystemExit({code})

click.Group.main = command
sys.modules[{module!r}] = types.ModuleType({module!r})
atexit.register(print, "registered before")
sys.stdout.write("printed, ")
main()
"""


@pytest.mark.parametrize(("code", "wanted"), [(0, 0), (None, 0), (1, 1), (2, 2)])
def test_ray_is_not_taken_apart(code: int | None, wanted: int) -> None:
    done = run(ray=True, code=code)
    assert (done.returncode, done.stdout) == (wanted, "printed, registered by the command\n")


def test_without_ray_python_ends_as_always() -> None:
    done = run(ray=False, code=1)
    assert done.returncode == 1
    assert done.stdout.startswith("printed, registered by the command\nregistered before\n")


def test_an_error_ends_as_always() -> None:
    done = run(ray=True, code="'a text'")
    assert (done.returncode, done.stderr) == (1, "a text\n")
    assert "registered before" in done.stdout


def run(ray: bool, code: object) -> subprocess.CompletedProcess[str]:
    text = CODE.format(module="ray" if ray else "light", code=code)
    return subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=False)
