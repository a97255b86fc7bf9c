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


def test_the_report_page_needs_neither_torch_nor_ray(tmp_path: Path) -> None:
    made = command("report", "grids/quickstart.yaml", "--results", str(tmp_path), "-o", f"{tmp_path}/a.html")
    assert not imported_by(made) & {*HEAVY}


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


ROOMS = (
    ("cli", "gridrun", "gridrun.commands"),
    ("gridrun.executors", "gridrun.doctor"),
    ("gridrun.sweep", "gridrun.search"),
    ("gridrun.notebook", "gridrun.figures", "gridrun.report", "gridrun.archive"),
    (
        "gridrun.plan",
        "gridrun.tables",
        "gridrun.evaluation",
        "gridrun.features",
        "gridrun.ages",
        "gridrun.looks",
        "gridrun.compare",
        "gridrun.paired",
    ),
    ("gridrun.grid",),
    (
        "gridrun.store",
        "gridrun.trial",
        "gridrun.resources",
        "gridrun.energy",
        "gridrun.metrics",
        "gridrun.verdicts",
        "gridrun.changed_code",
    ),
    ("trainer", "gridrun.errors", "gridrun.text"),
)
"""The floors of the house, the top one first. A module imports from its own floor and those below."""


def modules() -> dict[str, Path]:
    """Return every module of the program by its dotted name."""
    found = [ROOT / "cli.py", *(ROOT / "gridrun").rglob("*.py"), *(ROOT / "trainer").rglob("*.py")]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found]
    return {name.removesuffix(".__init__"): path for name, path in zip(names, found, strict=True)}


def imports(name: str, path: Path) -> set[str]:
    """Return what a module imports anywhere, for types or inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_imports() -> dict[str, set[str]]:
    """Return the modules of the program that each of them imports."""
    known = modules()
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        targets = (t if t in known else t.rpartition(".")[0] for t in imports(name, path))
        found[name] = {target for target in targets if target in known and target != name}
    return found


def floor(name: str) -> int:
    """Return the floor of a module, counted from the top."""
    for number, rooms in enumerate(ROOMS):
        for room in rooms:
            if name == room or (room != "gridrun" and name.startswith(f"{room}.")):
                return number
    raise AssertionError(f"{name} is in no room")


def test_no_module_imports_upward() -> None:
    upward = [
        f"{name} -> {target}"
        for name, targets in own_imports().items()
        for target in targets
        if target != "gridrun" and name != "gridrun" and floor(target) < floor(name)
    ]
    assert not upward


def test_no_modules_import_each_other_in_a_circle() -> None:
    """But for a family's options and its network, which lie in one folder."""
    edges = own_imports()
    left = set(edges)
    while ends := {name for name in left if not edges[name] & left}:
        left -= ends  # what imports nothing that is left is in no circle
    while starts := left - {target for name in left for target in edges[name]}:
        left -= starts
    folders = {name.rpartition(".network")[0] or name for name in left}
    families = {
        name for name in left if f"{name}.network" in left or name.endswith((".network", ".optimizer"))
    }
    assert left <= families, sorted(folders)


def test_ray_matplotlib_and_the_terminal_have_one_place_each() -> None:
    for name, path in modules().items():
        packages = {target.partition(".")[0] for target in imports(name, path)}
        assert name.startswith("gridrun.executors.ray.") or "ray" not in packages, path
        assert name.startswith("gridrun.figures.draw") or "matplotlib" not in packages, path
        assert name.startswith(("gridrun.commands", "cli")) or not packages & {"click", "rich", "cli"}, path
        assert name.startswith(("gridrun.commands", "cli")) or "gridrun.commands" not in path.read_text(), (
            path
        )
