"""The tutorial, block after block, as a new user pastes it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"# (\S+\.(?:py|yaml))\n")
WRAPPER = """#!/bin/sh
if [ "$1" = launch ]; then set -- "$@" --executor serial; fi
exec {python} {cli} "$@"
"""


def blocks() -> Iterator[tuple[str, str]]:
    """Yield the language and the text of each block."""
    yield from BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text())


def paste(language: str, text: str, place: Path, environment: dict[str, str]) -> str:
    """Do what a user does with a block, in the folder of a clone. Return what a command prints."""
    named = NAMED.match(text)
    if language == "diff":
        assert named
        path = place / named[1]
        old, new = (re.findall(rf"^[{sign}](.*)$", text, re.MULTILINE) for sign in "-+")
        before = path.read_text()
        assert all(before.count(f"{line}\n") == 1 for line in old)
        path.write_text(before.replace("\n".join(old), "\n".join(new)))
        return ""
    if language == "python" and named:
        path = place / named[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return ""
    command = [sys.executable, "-c", text] if language == "python" else ["bash", "-euc", text]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_it_leads_from_nothing_to_a_table_and_a_page(tmp_path: Path) -> None:
    place = tmp_path / "clone"
    for name in ("gridrun", "trainer", "cli.py"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, (place / name).parent.mkdir(parents=True, exist_ok=True) or place / name)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gridrun").write_text(WRAPPER.format(python=sys.executable, cli=place / "cli.py"))
    (programs / "gridrun").chmod(0o755)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("GRIDRUN_")},
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(place),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    install, *rest = blocks()
    assert "make quickstart" in install[1]
    printed = [paste(language, text, place, environment) for language, text in rest]

    tables = [text for text in printed if "MLP-256" in text and "Test Error" in text]
    assert tables, "the launch prints the table"
    assert "\\begin{table}" in "".join(printed)
    assert "| MLP-64" in (place / "RESULTS.md").read_text()
    assert (place / "shapes.html").stat().st_size > 100_000
    assert len(list((place / "figures").iterdir())) == 1


def test_the_readme_adds_the_same_model() -> None:
    models = [text for language, text in blocks() if text.startswith("# trainer/models/mlp/")]
    assert len(models) == 2
    assert all(text in (ROOT / "README.md").read_text() for text in models)
