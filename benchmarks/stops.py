"""Launches that are told to stop at random moments: do they end cleanly, in time, and all of Ray with them?

    python benchmarks/stops.py [--repetitions 20] [--way twice|once|kill|stuck|terminate] [--seed 1]

Ways: Ctrl-C twice within the first seconds, imports and the start of Ray among them; Ctrl-C once; `kill -9`;
Ctrl-C once while the worker is stopped for good (SIGSTOP); SIGTERM to the whole process group. Without
`--way`, all of them in turn. Exits with 1 after a traceback, a C++ stack, a wrong exit code, a launch that
takes longer than 45 s to end, or a process of its Ray that is there 10 s later.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from gridrun.executors.ray.watcher import users

ROOT = Path(__file__).parent.parent
GRID = """
base:
  model: {name: resnet_preact, depth: 8, initial_channels: 4}
  train_size: 500
  epochs: 100_000
axes: [{lr: [0.1, 0.2]}]
"""
WAYS = ("twice", "once", "kill", "stuck", "terminate")
LIMIT_SECONDS = 45.0
SLOW_SECONDS = 5.0
GONE_SECONDS = 10.0
BAD = re.compile(r"Traceback|Fatal Python error|\*\*\*|SIGSEGV|SIGABRT|StackTrace|C\+\+|Exception ignored")


def wait(condition, seconds: float) -> bool:
    """Return whether a condition has come true in time."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return bool(found)


def workers(temp: Path) -> list[int]:
    """Return Ray's workers that train."""
    found = []
    for pid in users(str(temp)):
        try:
            if b"Trainable" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def tell(process: subprocess.Popen[str], way: str, rng: random.Random, home: Path) -> str:
    """Stop a launch; return when."""
    if way in ("stuck", "terminate"):
        wait(lambda: list(home.glob("results/.work/checkpoints/*.epoch")), 120)
        for pid in workers(home / "t") if way == "stuck" else []:
            os.kill(pid, signal.SIGSTOP)
    else:
        seconds = rng.uniform(0.2, 8.0)
        wait(lambda: process.poll() is not None, seconds)
    match way:
        case "kill":
            process.kill()
        case "terminate":
            os.killpg(process.pid, signal.SIGTERM)
        case _:
            os.killpg(process.pid, signal.SIGINT)
    if way != "twice":
        return "" if way in ("stuck", "terminate") else f"after {seconds:.2f} s"
    gap = rng.choice((0.0, 0.05, 0.3, 1.0))
    time.sleep(gap)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    return f"after {seconds:.2f} s, again after {gap:g} s"


def attempt(way: str, rng: random.Random) -> tuple[list[str], float]:
    """Stop a launch in one way; return what went wrong, and the seconds that it took to end."""
    with tempfile.TemporaryDirectory(prefix="gr") as directory:
        home = Path(directory)
        (home / "grid.yaml").write_text(GRID)
        (home / "t").mkdir()
        with (home / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, ROOT / "cli.py", "launch", "grid.yaml", "--cpus", "1"],
                cwd=home,
                env={**os.environ, "TMPDIR": str(home / "t"), "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
            when = tell(process, way, rng, home)
        told, problems = time.monotonic(), []
        try:
            process.wait(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            problems.append(f"has not ended {LIMIT_SECONDS:g} s later")
            process.kill()
            process.wait()
        took, said = time.monotonic() - told, (home / "log").read_text()
        expected = {-signal.SIGKILL} if way == "kill" else {130, -signal.SIGINT}  # before Python has started
        if process.returncode not in expected:
            problems.append(f"exit {process.returncode}")
        if BAD.search(said):
            problems.append("prints a traceback or a stack")
        if way == "stuck" and "did not stop within" not in said:
            problems.append("does not say which trials did not stop")
        if took > SLOW_SECONDS:
            print(f"slow: {way} {when}: {took:.1f} s", flush=True)
        if not wait(lambda: not users(str(home / "t")), GONE_SECONDS):
            left = users(str(home / "t"))
            names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in left]
            problems.append(f"leaves {', '.join(names)}")
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        return [f"{way} {when}: {problem}\n{said if problem else ''}" for problem in problems], took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng, broken = random.Random(arguments.seed), 0
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in range(arguments.repetitions):
        way = arguments.way or WAYS[number % len(WAYS)]
        problems, took = attempt(way, rng)
        seconds[way].append(took)
        broken += bool(problems)
        for problem in problems:
            print(f"PROBLEM: {problem}", flush=True)
    longest = ", ".join(f"{way} {max(took):.1f} s (n = {len(took)})" for way, took in seconds.items())
    print(f"{arguments.repetitions} stops: {broken} with a problem; longest to end: {longest}")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
