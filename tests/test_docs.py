"""What the documents say is so."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import click
import pytest
from all_grids import GRIDS
from click.testing import CliRunner

import cli
from gridrun.grid import load_grid
from gridrun.store import Store

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        assert "://" in target or (document.parent / target).exists(), target


@pytest.mark.parametrize("grid", GRIDS, ids=lambda path: path.name)
def test_every_grid_can_be_trained_and_says_what_it_is_for(grid: Path) -> None:
    assert load_grid(grid).trials
    header = grid.read_text().partition("\nname:")[0]
    for word in ("?", "Run:", "Expect:", "Cost:"):
        assert word in header


def test_the_readme_s_grid_can_be_trained(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    path = tmp_path / "warmup.yaml"
    path.write_text(example)
    assert len(load_grid(path).trials) == 18


FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
WITH_TABLES = [path for path in DOCUMENTS if "\n<!-- gridrun table " in FENCED.sub("", path.read_text())]


def test_both_documents_with_tables_are_looked_at() -> None:
    assert [path.name for path in WITH_TABLES] == ["README.md", "results.md"]


@pytest.mark.parametrize("document", WITH_TABLES, ids=lambda path: path.name)
def test_tables_are_those_of_the_stored_results(document: Path) -> None:
    result = CliRunner().invoke(cli.main, ["table", "--readme", str(document), "--check"])
    assert result.exit_code == 0, result.output


def test_the_tests_that_are_named_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"^ {4}pytest (\S+\.py)(?: -k (\w+))?", text, re.MULTILINE)
    assert len(named) == 2
    for path, word in named:
        assert re.search(rf"^def test_\w*{word}", (ROOT / path).read_text(), re.MULTILINE), (path, word)


def test_the_files_and_functions_that_the_design_names_exist() -> None:
    text = (ROOT / "docs" / "design.md").read_text()
    rows = re.findall(r"^\| [^|]+\? \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) > 10
    for row in rows:
        files = [ROOT / name for name in re.findall(r"`([\w/]+\.py)`", row)]
        code = "".join(path.read_text() for path in files)
        for name in re.findall(r"`(\w+(?:\.\w+)?)`", row):
            assert re.search(rf"^ *(def |class )?{name.rpartition('.')[2]}\b", code, re.MULTILINE), name


def test_the_readme_s_commands_exist() -> None:
    text = (ROOT / "README.md").read_text()
    commands = cli.main.list_commands(click.Context(cli.main))
    for command in set(re.findall(r"(?:^ {4}|`|\$ )gridrun (\w+)", text, re.MULTILINE)):
        assert command in commands, command
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^ {4}|`)make ([\w-]+)", text, re.MULTILINE)):
        assert f"\n{target}:" in makefile, target


def test_the_ids_in_examples_are_of_stored_trials() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text()
    named = re.findall(r"^    gridrun \w+ .*?\b([0-9a-f]{6,16})\b", reference, re.MULTILINE)
    named += re.findall(r"^    gridrun compare \w+ ([0-9a-f]{6,16})\b", reference, re.MULTILINE)
    rows = Store(ROOT / "results" / "readme").rows(columns=["config_id"]).values()
    known = [row[name] for row in rows for name in ("trial_id", "config_id")]
    assert len(named) > 3
    assert [start for start in named if not any(id.startswith(start) for id in known)] == []


def test_what_the_readme_does_with_results_works_on_the_quickstart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = (ROOT / "README.md").read_text().partition("## Read the results")[2].partition("\n## ")[0]
    (tmp_path / "results").mkdir()
    for name in ("trials.parquet", "epochs.parquet"):
        shutil.copy(ROOT / "results" / "readme" / name, tmp_path / "results")
    (tmp_path / "grids").symlink_to(ROOT / "grids")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDRUN_RESULTS", raising=False)

    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(code, {})
    commands = re.findall(r"^ {4}gridrun (.+?) *#", section, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["status", "show", "why", "evaluate"]
    quickstart = load_grid("grids/quickstart.yaml")
    for command in commands:
        name, *arguments = command.removesuffix(" --watch").split()
        if name == "evaluate":  # the stored results have no weights; a launch keeps them
            assert any(trial.trial_id.startswith(*arguments) for trial in quickstart.trials)
            assert quickstart.keep_checkpoint == "last"
            continue
        result = CliRunner().invoke(cli.main, [name, *arguments])
        assert result.exit_code == 0, result.output
    assert "\nRESULTS ?= results\n" in (ROOT / "Makefile").read_text(), "where commands look by default"


def test_the_linear_scaling_study_is_the_published_one() -> None:
    grid = load_grid(ROOT / "grids" / "linear_scaling.yaml")
    assert len(grid.trials) == 20
    first, second = grid.tables
    errors = [
        table.published[row.config_id].values["test_error"] for table in (first, second) for row in table.rows
    ]
    assert errors[:10] == [10.57, 8.87, 8.40, 8.22, 8.61, 8.09, 8.22, 8.00, 7.75, 7.70]
    assert errors[10:] == [28.97, 9.07, 8.62, 8.23, 8.40, 8.28, 8.13, 7.58, 7.93, 8.31]
