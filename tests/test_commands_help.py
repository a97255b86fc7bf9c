"""`--help` and completion."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

import cli

ROOT = Path(__file__).parent.parent
CONTEXT = click.Context(cli.main, info_name="gridrun")
COMMANDS = cli.main.list_commands(CONTEXT)
GRID = """
base: {model: {name: resnet_preact, depth: 8}, epochs: 1}
profiles: {tiny: {set: {train_size: 256}}}
seeds: 1
"""


def help_of(*command: str) -> str:
    result = CliRunner().invoke(cli.main, [*command, "--help"], terminal_width=200)
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_text(name: str) -> None:
    command = cli.main.get_command(CONTEXT, name)
    assert command
    assert command.help
    for param in command.params:
        assert not isinstance(param, click.Option) or param.help, param.name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_an_example_that_can_be_typed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()  # an example names it
    *_, heading, example = help_of(name).splitlines()
    assert heading == "Example:"
    gridrun, typed, *arguments = shlex.split(example)
    assert (gridrun, typed) == ("gridrun", name)
    command = cli.main.get_command(CONTEXT, name)
    assert command
    command.make_context(name, arguments)  # or it raises a usage error


def test_the_list_of_commands_is_not_cut_off() -> None:
    lines = CliRunner().invoke(cli.main, ["--help"], terminal_width=80).output.splitlines()
    assert [line for line in lines if line.startswith("  ") and line.endswith("...")] == []


def test_numbers_are_shown_as_such() -> None:
    assert "INTEGER RANGE" not in "".join(map(help_of, COMMANDS))


def test_a_grid_that_may_be_left_out_is_shown_so() -> None:
    assert "[OPTIONS] [GRID]..." in help_of("status")
    assert "[OPTIONS] GRID..." in help_of("launch")


def test_options_stand_in_groups() -> None:
    shown = help_of("launch")
    headings = [line for line in shown.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings == [
        "Which trials:",
        "Results, data and checkpoints:",
        "Where trials run:",
        "When to stop:",
        "Who is told:",
        "Options:",
        "Example:",
    ]
    assert (
        shown.index("Which trials:") < shown.index("--again") < shown.index("Results, data and checkpoints:")
    )
    assert shown.index("Where trials run:") < shown.index("--address") < shown.index("When to stop:")


def test_defaults_are_those_of_the_command() -> None:
    assert "what the grids say, else none" in help_of("launch")
    shown = help_of("train")
    assert "grids say" not in shown
    assert "[default: serial]" in shown


def complete(*words: str) -> list[str]:
    """Return what a shell offers for the last of some words."""
    *before, last = words
    shell = ShellComplete(cli.main, {}, "gridrun", "_GRIDRUN_COMPLETE")
    return [item.value for item in shell.get_completions(before, last)]


def test_names_keys_and_profiles_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grids").mkdir()
    Path("grids/one.yaml").write_text(GRID)
    Path("grids/broken.yaml").write_text("base: [")
    assert complete("list", "models", "resnet_p") == ["resnet_preact", "resnet_preact_imagenet"]
    assert complete("list", "options", "label") == ["label_smoothing"]
    assert complete("plan", "--set", "schedule.min") == ["schedule.min_factor="]
    assert complete("train", "augmentation.cutout") == [
        "augmentation.cutout.inside=",
        "augmentation.cutout.probability=",
        "augmentation.cutout.size=",
        "augmentation.cutout=",
    ]
    assert complete("plan", "--profile", "") == ["tiny"]
    (trial_id,) = complete("launch", "grids/one.yaml", "--only", "")
    assert len(trial_id) == 16


def test_ids_are_those_of_the_results_directory() -> None:
    place = str(ROOT / "results" / "readme")
    ids = complete("show", "--results", place, "")
    assert len(ids) > 100
    assert complete("show", "--results", place, ids[0][:10]) == [ids[0]]
    assert complete("show", "--results", str(ROOT / "docs" / "none"), "") == []


def test_the_line_of_the_guide_prints_a_script() -> None:
    (line,) = [
        line.strip() for line in (ROOT / "docs/guide.md").read_text().splitlines() if "bash_source" in line
    ]
    assert line == 'eval "$(_GRIDRUN_COMPLETE=bash_source gridrun)"'
    code = "import sys, cli; sys.argv[0] = 'gridrun'; cli.main(prog_name='gridrun')"
    environment = os.environ | {"_GRIDRUN_COMPLETE": "zsh_source"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert "_GRIDRUN_COMPLETE=zsh_complete" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["grid/one.yaml", "one", "oen.yaml"])
def test_a_missing_grid_is_looked_for_in_grids(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grids").mkdir()
    Path("grids/one.yaml").write_text(GRID)
    result = CliRunner().invoke(cli.main, ["plan", name])
    assert result.exit_code == 2
    assert result.stderr == f"Error: {name}: no such file. Did you mean 'grids/one.yaml'?\n"
