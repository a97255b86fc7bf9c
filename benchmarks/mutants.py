"""Do the tests notice it when code that decides numbers or truth is wrong?

    python benchmarks/mutants.py [--number 40] [--seed 1] [--minutes 30] [--module gridrun/verdicts.py]

Changes one place at a time, sampled from the modules below: a comparison, an operator, a number, a condition,
the branch of an `if`, min and max. Then runs the tests of that module, in a copy of the repository. A mutant
is killed when a test fails that passes without it, or hangs. Left out: annotations, decorators, error
messages, f-strings, how long something waits, and the `strict` of `zip`. Prints the survivors;
`docs/benchmarks.md` says of each why it may live. Exits with 1 if fewer than 95 % are killed. Linux: each
mutant is a fork of a process that has imported torch and pandas.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
KILLED_SHARE = 0.95
NOTES = "mutants.json"
TEST_SECONDS = 180
"""A single test that takes longer hangs."""
LIMIT_SECONDS = 1800.0
PRELOADED = (
    *("torch", "torchvision", "numpy", "pandas", "pyarrow.parquet", "scipy.stats", "sklearn.datasets"),
    *("click.testing", "hypothesis", "rich.live", "yaml", "pytest"),
)
TESTS = {
    "gridrun/changed_code.py": "changed_code",
    "gridrun/compare.py": "compare",
    "gridrun/looks.py": "looks",
    "gridrun/metrics.py": "metrics tables_render tables tables_published",
    "gridrun/plan/costs.py": "plan_costs plan",
    "gridrun/plan/packing.py": "plan_packing",
    "gridrun/plan/schedule.py": "plan_schedule plan",
    "gridrun/plan/trials.py": "plan commands_retry",
    "gridrun/search/segments.py": "search_segments search",
    "gridrun/store/columns.py": "store_parquet store_unstorable store",
    "gridrun/store/compaction.py": "store store_overtaken store_unstorable store_pacing",
    "gridrun/store/ends.py": "store_ends store_overtaken commands_retry store",
    "gridrun/store/leases.py": "store_leases store_nfs",
    "gridrun/store/merge.py": "store_merge",
    "gridrun/store/opened.py": "store_foreign store_parquet store_nfs store",
    "gridrun/store/parquet.py": "store_parquet store_pacing store store_unstorable",
    "gridrun/store/records.py": "store_records store store_unstorable",
    "gridrun/sweep/queue.py": "sweep_queue",
    "gridrun/sweep/retries.py": "sweep_retries commands_retry sweep_failing",
    "gridrun/tables/arrange.py": "tables tables_render",
    "gridrun/tables/build.py": "tables tables_published tables_notes",
    "gridrun/tables/judge.py": "tables_published tables_compare tables_why verdicts",
    "gridrun/tables/why.py": "tables_why",
    "gridrun/trial.py": "ids plan",
    "gridrun/verdicts.py": "verdicts tables_compare tables_published",
    "trainer/averages/_average.py": "trainer_averages",
    "trainer/averages/lookahead.py": "trainer_averages trainer_defaults",
    "trainer/checkpoint.py": "trainer_checkpoint trainer_loop",
    "trainer/clock.py": "trainer_clock",
    "trainer/config.py": "trainer_config trainer_defaults trainer_schedules trainer_parameter_groups "
    "trainer_splits trainer_segments trainer_batch_norm",
    "trainer/data/splits.py": "trainer_splits",
    "trainer/evaluation.py": "trainer_evaluation evaluation",
    "trainer/kept.py": "evaluation trainer_evaluation",
    "trainer/learner.py": "trainer_loop trainer_parameter_groups trainer_batch_norm",
    "trainer/loop.py": "trainer_loop trainer_train_seconds trainer_checkpoint trainer_segments evaluation",
    "trainer/loss.py": "trainer_loss trainer_batch_augmentations",
    "trainer/metrics.py": "trainer_loop",
    "trainer/optimizers/_groups.py": "trainer_parameter_groups trainer_optimizers",
    "trainer/optimizers/lars/optimizer.py": "trainer_optimizers",
    "trainer/optimizers/muon/optimizer.py": "trainer_muon",
    "trainer/schedules/cosine.py": "trainer_schedules trainer_config trainer_defaults",
    "trainer/schedules/multistep.py": "trainer_schedules trainer_config trainer_defaults",
    "trainer/schedules/piecewise_linear.py": "trainer_schedules trainer_config trainer_defaults",
    "trainer/schedules/sgdr.py": "trainer_schedules trainer_config trainer_defaults",
    "trainer/seeds.py": "trainer_loop ids",
    "trainer/warmups/exponential.py": "trainer_schedules trainer_config trainer_defaults",
}
_PAIRS = (
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot), (ast.In, ast.NotIn)),
    *((ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.And, ast.Or)),
)
SWAPPED: dict[type, type] = {
    **dict(_PAIRS),
    **{new: old for old, new in _PAIRS},
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


class Mutator(ast.NodeTransformer):
    """Counts the places of a module that can be changed, and changes the one with the number `wanted`."""

    def __init__(self, wanted: int | None = None) -> None:
        self.wanted, self.places = wanted, 0
        self.line, self.change = 0, ""

    def _is_wanted(self, node: ast.AST, change: str) -> bool:
        self.places += 1
        if self.places - 1 != self.wanted:
            return False
        self.line, self.change = node.lineno, change  # type: ignore[attr-defined]
        return True

    def _swap(self, node: ast.AST, op: ast.AST) -> ast.AST:
        new = SWAPPED.get(type(op))
        if new and self._is_wanted(node, f"{type(op).__name__} becomes {new.__name__}"):
            return new()
        return op

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        node.ops = [self._swap(node, op) for op in node.ops]  # type: ignore[misc]
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if not any(isinstance(side, (ast.JoinedStr, ast.List)) for side in (node.left, node.right)):
            node.op = self._swap(node, node.op)  # type: ignore[assignment]
        return self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        node.op = self._swap(node, node.op)  # type: ignore[assignment]
        return self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        node.op = self._swap(node, node.op)  # type: ignore[assignment]
        return self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if isinstance(node.op, ast.Not) and self._is_wanted(node, "`not` goes"):
            return node.operand
        return self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        if self._is_wanted(node, "the branches of `... if ... else` change places"):
            node.body, node.orelse = node.orelse, node.body
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        if ast.unparse(node.test) == "TYPE_CHECKING":
            return node
        if isinstance(node.test, (ast.Name, ast.Call, ast.Attribute, ast.NamedExpr)) and self._is_wanted(
            node, "`if` becomes `if not`"
        ):
            node.test = ast.UnaryOp(ast.Not(), node.test)
        return self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        for number, test in enumerate(node.ifs):
            if self._is_wanted(test, "a filter goes"):
                node.ifs[number] = ast.Constant(True)
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool):
            new: object = not node.value
        elif isinstance(node.value, (int, float)):
            new = node.value + 1
        else:
            return node
        return ast.Constant(new) if self._is_wanted(node, f"{node.value} becomes {new}") else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        new = NAMES.get(node.id)
        return ast.Name(new) if new and self._is_wanted(node, f"{node.id} becomes {new}") else node

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        return node if node.arg == "strict" else self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.body = [self.visit(part) for part in node.body]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [self.visit(part) for part in node.body]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value:
            node.value = self.visit(node.value)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        waits = [t for t in node.targets if isinstance(t, ast.Name) and t.id.endswith("_SECONDS")]
        return node if waits else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return node

    visit_JoinedStr = visit_Import = visit_ImportFrom = visit_Raise  # type: ignore[assignment]  # noqa: N815


def places(module: str) -> int:
    """Return how many places of a module can be changed."""
    mutator = Mutator()
    mutator.visit(ast.parse((ROOT / module).read_text()))
    return mutator.places


def mutate(module: str, place: int) -> tuple[str, str]:
    """Return a module with one place changed, and what was changed."""
    source = (ROOT / module).read_text()
    mutator = Mutator(place)
    changed = ast.unparse(ast.fix_missing_locations(mutator.visit(ast.parse(source))))
    line = source.splitlines()[mutator.line - 1].strip()
    return changed, f"{module}:{mutator.line}: {mutator.change} in `{line}`"


class Watch:
    """Puts tests first that have killed a mutant, then the fastest; notes which test failed.

    Args:
        notes: the file where it keeps what it knows from one mutant to the next.
    """

    def __init__(self, notes: Path) -> None:
        self.notes = notes
        known = json.loads(notes.read_text()) if notes.exists() else {}
        self.seconds: dict[str, float] = known.get("seconds", {})
        self.kills: dict[str, int] = known.get("kills", {})
        self.killer: str | None = None
        self.note()

    def note(self) -> None:
        """Write what is known, also if the process does not live to its end."""
        known = {"seconds": self.seconds, "kills": self.kills, "killer": self.killer}
        self.notes.write_text(json.dumps(known))

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items.sort(key=lambda item: (-self.kills.get(item.nodeid, 0), self.seconds.get(item.nodeid, 0.0)))

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.killer = report.nodeid
            self.kills[report.nodeid] = self.kills.get(report.nodeid, 0) + 1
        elif report.when == "call":
            self.seconds[report.nodeid] = report.duration

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.killer = report.nodeid

    def pytest_sessionfinish(self) -> None:
        self.note()


def run_tests(copy: Path, groups: Iterable[Sequence[str]]) -> int:
    """Run groups of tests, one after the other, in a fork of this process; return 0 if they pass."""
    pid = os.fork()
    if not pid:
        os.setsid()  # so that what the tests start can be killed with them
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        import pytest

        always = [
            "-x",
            "-m",
            "not slow",
            "-p",
            "no:cacheprovider",
            "--assert=plain",
            f"--timeout={TEST_SECONDS}",
        ]
        codes = (pytest.main([*always, *group], plugins=[Watch(copy / NOTES)]) for group in groups if group)
        os._exit(next((int(code) for code in codes if code), 0))
    end = time.monotonic() + LIMIT_SECONDS
    try:
        while time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return -signal.SIGKILL
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


_written = itertools.count(10**9)


def write(path: Path, text: str) -> None:
    """Write a module. Each time is another whole second, so that Python takes no old bytecode for it."""
    path.write_text(text)
    second = next(_written)
    os.utime(path, (second, second))


def copy_repository(to: Path) -> None:
    """Copy the tracked files, as they are on disk."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, to / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--number", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=600, help="try no more mutants after so long")
    parser.add_argument("--module", choices=TESTS, metavar="FILE")
    arguments = parser.parse_args()
    modules = [arguments.module] if arguments.module else list(TESTS)
    every = [(module, place) for module in modules for place in range(places(module))]
    sample = random.Random(arguments.seed).sample(every, min(arguments.number, len(every)))
    sys.dont_write_bytecode = False  # pytest would read each test file anew for every mutant
    for name in PRELOADED:
        __import__(name)
    gc.collect()
    gc.freeze()  # a fork that collects all of it copies it: half of the CPU time of a mutant
    survivors: list[str] = []
    tried: list[str] = []
    killers: set[str] = set()
    end = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory(prefix="mutants") as directory:
        copy = Path(directory)
        copy_repository(copy)
        for module, place in sample:  # in any order, so that a part of them is a sample too
            if time.monotonic() > end:
                break
            before = (copy / module).read_text()
            changed, about = mutate(module, place)
            write(copy / module, changed)
            files = [f"tests/test_{name}.py" for name in TESTS[module].split()]
            failed = run_tests(copy, [[file] for file in files])
            write(copy / module, before)
            print(f"{'killed  ' if failed else 'SURVIVED'} {about}", flush=True)
            tried.append(about)
            if not failed:
                survivors.append(about)
            elif killer := json.loads((copy / NOTES).read_text())["killer"]:  # None: it hangs
                killers.add(killer.split("[")[0])
        imports = sorted(killer for killer in killers if "::" not in killer)
        tests = sorted(killers.difference(imports))
        if run_tests(copy, [tests, ["--collect-only", *imports] if imports else []]):
            killer = json.loads((copy / NOTES).read_text())["killer"]
            sys.exit(f"{killer} fails also if nothing is changed, so that it kills no mutant")
    number = len(tried)
    share = 1 - len(survivors) / number
    print(
        f"{number - len(survivors)} of {number} mutants killed ({100 * share:.0f} %), of {len(every)} places"
    )
    sys.exit(share < KILLED_SHARE)


if __name__ == "__main__":
    main()
