"""Who may know whom, and what may be imported when."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "torchvision", "ray", "sklearn")


def imported_by(*code: str) -> set[str]:
    """Return the top-level modules that a fresh process holds after running `code`."""
    script = "; ".join(
        ["import sys", *code, "print(*{m.partition('.')[0] for m in sys.modules}, file=sys.stderr)"]
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def command(*arguments: str) -> str:
    run = f"r = CliRunner().invoke(cli.main, {list(arguments)!r})"
    return f"from click.testing import CliRunner; import cli; {run}; assert r.exit_code == 0, r.output"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["launch", "--help"],
        ["plan", "grids/quickstart.yaml"],
        ["status", "grids/quickstart.yaml"],
        ["table", "grids/linear_scaling.yaml"],
        ["why", "lars_4096", "3", "grids/lars.yaml"],
        ["list", "models"],
    ],
    ids=" ".join,
)
def test_commands_that_answer_at_once_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    results = [] if arguments[-1] == "--help" or arguments[0] == "list" else ["--results", str(tmp_path)]
    assert not imported_by(command(*arguments, *results)) & {*HEAVY, "pandas"}


def test_reading_a_store_imports_no_pandas() -> None:
    shown = command("table", "grids/quickstart.yaml", "--results", "results/readme")
    assert not imported_by(shown) & {*HEAVY, "pandas"}


def test_help_reads_no_grid_and_no_options_of_the_trainer() -> None:
    assert not imported_by(command("--help")) & {"trainer", "yaml", "rich"}


def test_the_trainer_knows_nothing_above_it() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "trainer").rglob("*.py"))
    ]
    found = imported_by(*(f"import {module}" for module in modules))
    assert "torch" in found
    assert not found & {"gridrun", "ray", "click", "rich", "cli"}


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_ray_matplotlib_and_the_terminal_have_one_place_each() -> None:
    for path in sorted((ROOT / "gridrun").rglob("*.py")):
        of_ray = path.parent.name == "executors" and path.name.startswith("ray_")
        assert ("ray" in imports(path)) == of_ray, path
        assert path.parent.name == "draw" or "matplotlib" not in imports(path), path
        assert path.parent.name == "commands" or not imports(path) & {"click", "rich", "cli"}, path
        assert path.parent.name == "commands" or "gridrun.commands" not in path.read_text(), path
