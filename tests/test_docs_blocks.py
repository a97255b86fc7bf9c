"""Blocks of the documents, pasted as they stand.

Commands run in a folder like a clone after `make quickstart`, gridrun's own in this process. A block that
starts with `# Needs: ...` (a network, a cluster) is not run: its commands, options and files must exist. YAML
is a grid or a part of one. The tutorial's commands have a test of their own.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

import cli
from gridrun.grid import GRID_KEYS, load_grid

ROOT = Path(__file__).parent.parent
NEEDS = re.compile(r"# Needs: \S.*\n")
NAMED = re.compile(r"# (\S+\.(?:py|yaml))\n")
PROGRAMS = re.compile(r"(gridrun|make|python3?|pytest|export|ray|ip|for|eval|mkdir)\b|\. ")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
WRAPPER = '#!/bin/sh\nexec {python} {cli} "$@"\n'


@dataclass(frozen=True)
class Block:
    """A block of a document."""

    place: str
    language: str
    """`sh`, `python`, `yaml`, `diff`, `shown` for a command with what it prints, else `text`."""
    text: str

    @property
    def is_marked(self) -> bool:
        """Whether it says that it needs what a test does not have."""
        return bool(NEEDS.match(self.text))


def blocks_of(path: Path) -> Iterator[Block]:
    """Yield the blocks of a document: those between fences, and indented ones."""
    lines = path.read_text().splitlines()
    number = 0
    while number < len(lines):
        start, line = number, lines[number]
        number += 1
        if line.startswith("```"):
            while lines[number] != "```":
                number += 1
            number += 1
            text = "\n".join(lines[start + 1 : number - 1]) + "\n"
            yield Block(f"{path.name}:{start + 1}", line[3:], text)
        elif line.startswith("    ") and not lines[start - 1].strip():
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number].strip()):
                number += 1
            text = textwrap.dedent("\n".join(lines[start:number])).strip() + "\n"
            yield Block(f"{path.name}:{start + 1}", _language(NEEDS.sub("", text)), text)


def _language(text: str) -> str:
    return "sh" if PROGRAMS.match(text) else "shown" if text.startswith("$ ") else "text"


BLOCKS = {path.name: list(blocks_of(path)) for path in DOCUMENTS}
ALL = [block for blocks in BLOCKS.values() for block in blocks]
HEAVY = ("README.md", "guide.md", "reference.md")  # they train and evaluate
PASTED = [
    pytest.param(name, marks=[pytest.mark.slow] if name in HEAVY else [])
    for name in BLOCKS
    if name != "tutorial.md"
]


def run(words: list[str]) -> Result:
    """Run a command of gridrun's in this process. What trains more than three trials only shows its plan."""
    if words[0] in ("launch", "search", "train", "retry"):
        words += [] if words[0] == "train" else ["--executor", "serial"]
        if words[0] in ("launch", "search") and "--dry-run" not in words:
            plan = run([*words, "--dry-run"])
            missing = re.search(r"(\d+) missing", plan.output)
            if missing and int(missing[1]) > 3:
                return plan
    result = CliRunner().invoke(cli.main, words)
    over_budget = result.exit_code == 1 and "--budget-hours" in words
    assert result.exit_code == 0 or over_budget, (
        f"gridrun {shlex.join(words)}\n{result.output}\n{result.exception!r}"
    )
    return result


def lines_of(text: str) -> list[list[str]]:
    """Return the commands of a block as words, without comments."""
    joined = text.replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def paste(text: str) -> None:
    """Run a block: gridrun's own commands here, any other block in a shell."""
    commands = lines_of(text)
    if all(words[0] == "gridrun" for words in commands):
        for _, *words in commands:
            run(words)
        return
    done = subprocess.run(["bash", "-euc", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """Return a folder as `make quickstart` leaves it: grids, and results with the weights of a trial."""
    place = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "grids", place / "grids")
    shutil.copytree(ROOT / "results" / "readme", place / "results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRIDRUN_CACHE", str(cache_dir))
        patch.chdir(place)
        run(["forget", "0c39ed"])
        run(["launch", "grids/quickstart.yaml"])
    return place


@pytest.fixture
def clone(
    request: pytest.FixtureRequest, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Enter a folder like a clone, with images and a `gridrun` for shells. Nobody watches longer than a look.

    Slow tests have the weights of a trial in it.
    """
    place = tmp_path / "clone"
    if request.node.get_closest_marker("slow"):
        shutil.copytree(request.getfixturevalue("quickstart"), place)
    else:
        shutil.copytree(ROOT / "grids", place / "grids")
        shutil.copytree(ROOT / "results" / "readme", place / "results")
    (place / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (2, 9, 12), dtype=np.uint8)
    Image.fromarray(pixels[0]).save(place / "photos" / "first.png")
    Image.fromarray(pixels[1]).save(place / "more.jpg")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gridrun").write_text(WRAPPER.format(python=sys.executable, cli=ROOT / "cli.py"))
    (programs / "gridrun").chmod(0o755)
    for name in ("RESULTS", "DATA"):
        monkeypatch.delenv(f"GRIDRUN_{name}", raising=False)
    monkeypatch.setenv("GRIDRUN_CACHE", str(cache_dir))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.chdir(place)

    def look_once(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gridrun.commands.status.time", SimpleNamespace(sleep=look_once))
    return place


@pytest.mark.parametrize("document", PASTED)
def test_every_block_can_be_pasted_after_those_before_it(document: str, clone: Path) -> None:
    for block in BLOCKS[document]:
        if block.is_marked:
            continue
        if named := NAMED.match(block.text):
            path = clone / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(smaller(block.text) if path.suffix == ".yaml" else block.text)
        elif block.language == "python":
            exec(compile(block.text, block.place, "exec"), {})
        elif block.language == "sh":
            paste(block.text)
        elif block.language == "shown":
            command, _, printed = block.text.removeprefix("$ ").partition("\n")
            result = CliRunner().invoke(cli.main, shlex.split(command)[1:])
            assert (result.exit_code, result.output) == (2, printed), block.place


def smaller(text: str) -> str:
    """Return the README's grid in a size for a test."""
    for full, small in {
        "fashion_mnist": "digits",
        "depth: 20": "depth: 8",
        "epochs: 40": "epochs: 2",
        "[4096, 1024, 128]": "[256]",
        "epochs: 5": "epochs: 1",
        "seeds: 3": "seeds: 1",
    }.items():
        assert text.count(full) == 1, full
        text = text.replace(full, small)
    return text


MARKED = [block for block in ALL if block.is_marked]


@pytest.mark.parametrize("block", MARKED, ids=lambda block: block.place)
def test_what_a_marked_block_names_exists(block: Block, clone: Path) -> None:
    if block.language == "python":
        ast.parse(block.text)
        return
    subprocess.run(["bash", "-nc", block.text], check=True)
    for words in lines_of(re.sub(r"[;|&]+", "\n", block.text)):
        for program in sorted({"gridrun", "make", "pytest", "ray"} & set(words)):
            name, *rest = words[words.index(program) + 1 :]
            if program == "gridrun":
                group = click.Context(cli.main)
                command = cli.main.get_command(group, name)
                assert command, block.place
                command.make_context(name, list(rest), parent=group)  # refuses what the command does not take
                if name == "launch" and "--address" not in rest:
                    run(["launch", *rest, "--dry-run"])
            elif program == "make":
                assert f"\n{name}:" in (ROOT / "Makefile").read_text(), block.place
            elif program == "pytest" and name[0] != "-":
                assert list(ROOT.glob(name)), block.place
            elif program == "ray":
                # In this process, Ray would take note of how to authenticate, for all tests after this one.
                ask = "import sys; from ray.scripts.scripts import cli as c; c.commands[sys.argv[1]]"
                ask += ".make_context(sys.argv[1], sys.argv[2:])"
                subprocess.run([sys.executable, "-c", ask, name, *rest], check=True, timeout=60)


YAML = [block for block in ALL if block.language == "yaml"]
SCHEDULES = {"axes": [{"schedule": ["cosine", "multistep"]}]}
ELSEWHERE = {  # what a part of a grid needs of the rest, by words that it has
    "cases:": {"derive": {"schedule.milestones": ["0.5 * epochs"]}},
    "exclude: [{batch_size: 4096}]": {"axes": [{"batch_size": [4096, 128]}]},
    "id: cosine": {"axes": [{"batch_size": [4096, 128]}], "derive": {"lr": "0.1 * batch_size / 128"}},
    "by: schedule": {"axes": [{"batch_size": [64, 128]}, {"schedule": ["cosine", "constant"]}]},
    "derive:\n  schedule": SCHEDULES,
}


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.place)
def test_yaml_is_a_grid_or_a_part_of_one(block: Block, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "grids" / "pba", tmp_path / "grids" / "pba")
    path = tmp_path / "grids" / "pasted.yaml"
    given = yaml.safe_load(block.text) or {}
    assert set(given) <= set(GRID_KEYS), "a part says where it belongs"
    (tmp_path / "grids" / "base.yaml").write_text(
        "base: {model: {name: resnet_preact, depth: 8}, dataset: cifar10, epochs: 200}"
    )
    rest = next((rest for words, rest in ELSEWHERE.items() if words in block.text), {})
    path.write_text(block.text + yaml.safe_dump({"include": "base.yaml", **rest}))
    for profile in [None, *load_grid(path).profiles]:
        grid = load_grid(path, profile=profile)
        assert grid.rows or grid.search
