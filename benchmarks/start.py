"""Where the seconds go at the start and at the end of a launch: two trials of one epoch on two cores.

    python benchmarks/start.py [--runs 3] [--without tune]

Each run is a launch into an empty store, in a process of its own. Seconds of wall time and of the command's
own CPU time are medians of the runs; on a shared machine only the latter and ratios mean something. Then it
says what was left behind. `--without` alternates with launches that lack one way to save time: `tune`, its
import while Ray starts, or `kill`, Ray's processes killed at once when it ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
GRID = """
title: Start and end of a launch
base: {model: {name: resnet_preact, depth: 8}, dataset: digits, epochs: 1, batch_size: 64}
axes: [{lr: [0.05, 0.1]}]
tables: [{columns: [lr, test_error]}]
"""
STAGES = (
    ("python and gridrun's imports", "process", "imported"),
    ("plan, estimate, data", "imported", "ray begins"),
    ("ray.init; Tune's import meanwhile", "ray begins", "ray runs"),
    ("Tune places the first trial", "ray runs", "first started"),
    ("the worker gets ready to train", "first started", "first trains"),
    ("the first trial starts, in all", "process", "first trains"),
    ("the trials", "first trains", "last record"),
    ("Tune ends", "last record", "ray ends"),
    ("Ray ends", "ray ends", "ray ended"),
    ("the command prints its tables", "ray ended", "main over"),
    ("from the last record to the tables, in all", "last record", "main over"),
    ("Python ends", "main over", "exit"),
    ("from the last record to the exit, in all", "last record", "exit"),
)


def child(notes: Path, arguments: list[str]) -> None:
    """Run the command line, and note when what happens: [wall, CPU] seconds by name."""
    times: dict[str, list[float]] = {}

    def note(name: str) -> None:
        times[name] = [time.time(), time.process_time()]

    def around(owner: Any, name: str, before: str = "", after: str = "") -> None:
        method: Callable[..., Any] = getattr(owner, name)

        def timed(*given: Any, **named: Any) -> Any:
            if before and before not in times:
                note(before)
            result = method(*given, **named)
            if after and after not in times:
                note(after)
            return result

        setattr(owner, name, timed)

    from cli import main
    from gridrun.executors.ray import session
    from gridrun.executors.ray.session import RaySession
    from gridrun.sweep.bookkeeper import Bookkeeper
    from gridrun.sweep.events import Ended, Started

    note("imported")
    replaced: Any = session
    if os.environ.get("START_WITHOUT") == "tune":
        replaced._importing_tune = contextlib.nullcontext
    if os.environ.get("START_WITHOUT") == "kill":
        replaced.ended_at_once = lambda *_: contextlib.nullcontext()
    around(RaySession, "start", "ray begins", "ray runs")
    around(RaySession, "close", "ray ends", "ray ended")
    bookkeeper: Any = Bookkeeper
    handle = bookkeeper.handle

    def handled(self: Any, event: Any) -> None:
        if isinstance(event, Started) and "first started" not in times:
            note("first started")
        if isinstance(event, Ended):
            note("last record")
        handle(self, event)

    bookkeeper.handle = handled
    sys.argv = ["gridrun", *arguments]
    try:
        main()
    finally:
        note("main over")
        notes.write_text(json.dumps(times))


def run(place: Path, without: str) -> tuple[dict[str, list[float]], list[str]]:
    """Launch once; return the times, and what was left behind."""
    from gridrun.store import Store

    place.mkdir()
    grid, notes, results = place / "start.yaml", place / "notes.json", place / "results"
    grid.write_text(GRID)
    scratch = place / "tmp"
    scratch.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(scratch), "START_WITHOUT": without}
    command = [sys.executable, __file__, "--child", str(notes), "launch", str(grid), "--cpus", "2"]
    began = time.time()
    done = subprocess.run(
        [*command, "--results", str(results)], env=environment, capture_output=True, text=True, check=False
    )
    ended = time.time()
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    times = json.loads(notes.read_text())
    times |= {"process": [began, 0.0], "exit": [ended, times["main over"][1]]}
    starts = [datetime.fromisoformat(record["started_at"]) for record in Store(results).rows().values()]
    times["first trains"] = [min(starts).timestamp(), times["first started"][1]]
    return times, left_behind(scratch, results)


def left_behind(scratch: Path, results: Path) -> list[str]:
    """Return the processes that still name `scratch`, its files, and locks of the store."""
    found = [str(path.relative_to(scratch)) for path in scratch.rglob("*") if path.is_file()]
    found += [str(path) for path in results.rglob("*lock*") if path.is_file()]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(scratch) in (line := path.read_text().replace("\0", " ")):
                found.append(line)
        except OSError:  # it has ended just now
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--without", choices=["tune", "kill"])
    arguments = parser.parse_args()
    import ray

    found: dict[str, list[dict[str, list[float]]]] = {}
    left: list[str] = []
    kinds = ["", arguments.without] if arguments.without else [""]
    with tempfile.TemporaryDirectory(prefix="s") as directory:  # short, for Ray's sockets
        for number in range(arguments.runs):
            for kind in kinds:
                times, behind = run(Path(directory) / f"{number}{kind[:1]}", kind)
                found.setdefault(kind, []).append(times)
                left += behind
    print(
        f"ray {ray.__version__}, {os.cpu_count()} cores, n = {arguments.runs}; wall s, CPU s of the command:"
    )
    for kind, runs in found.items():
        if kind:
            print(f"without {kind}:")
        for name, begin, end in STAGES:
            wall, cpu = (
                statistics.median(times[end][index] - times[begin][index] for times in runs)
                for index in (0, 1)
            )
            print(f"  {name:44} {wall:6.2f} {cpu:6.2f}")
    print("left behind: " + ("; ".join(left) or "nothing"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), sys.argv[3:])
    else:
        main()
