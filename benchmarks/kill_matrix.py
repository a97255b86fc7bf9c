"""Sweeps whose processes are killed at random moments, beside one that was left alone.

    python benchmarks/kill_matrix.py [--kills 100] [--seconds S] [--seed 0]

Sixteen trials of one or two seconds on digits. A third of the launches run under Ray; there SIGKILL
takes the driver, a worker that trains, Ray's raylet, its GCS, or all of them at once. The others
train in the launch's own process, which it takes too. When a launch is dead the command is given
again. All the while a plain reader (`pandas.read_parquet`) polls both files. At the end of
each sweep every column and every epoch is compared, bit for bit, with the undisturbed sweep's,
but for times and how often a trial was started and resumed.

Victims and moments follow from the seed. Exits with 1 if anything differs, was lost, was trained
twice, could not be read or hung.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parent.parent
GRID = """
base:
  dataset: digits
  model: {name: resnet_preact, depth: 8, initial_channels: 8}
  augmentation: {random_crop: {padding: 1}}
axes:
  - batch_size: [64, 128]
  - schedule: [cosine, multistep]
  - epochs: [4, 12]
derive: {schedule.milestones: [0.5 * epochs, 0.75 * epochs]}
seeds: 2
"""
NOT_COMPARED = {
    *(
        "train_seconds",
        "time_to_train_seconds",
        "images_per_second",
        "peak_memory_mib",
        "energy_kwh",
        "started_at",
        "ended_at",
    ),
    *("resumes", "attempts"),
}
VICTIMS = ("driver", "worker", "raylet", "GCS", "all")
ALONE = "serial"
"""The victim where there is but one process."""
MOST_WORKERS = 4
"""Killed in one launch."""
RETRIES = "1000"
"""By default a trial that has lost three workers, in however many launches, is given up, and should be."""
HANGS_AFTER_SECONDS = 300.0


@dataclass(frozen=True)
class Kill:
    """One SIGKILL that is to come."""

    victim: str
    early: bool
    """Count from the launch's start, not from its first trial's."""
    delay_seconds: float


@dataclass
class Kills:
    """Those that are to come."""

    rng: random.Random
    left: int
    until: float

    def draw(self, victims: Sequence[str]) -> Kill | None:
        if time.monotonic() > self.until:
            self.left = 0
        if not self.left:
            return None
        early = self.rng.random() < 0.2
        return Kill(self.rng.choice(victims), early, self.rng.uniform(0, 6 if early else 4))


@dataclass
class Tally:
    """What has been seen so far."""

    kills: Counter[str] = field(default_factory=Counter)
    exits: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Launches that ended without having done all, by the victim that was killed last and exit code."""
    sweeps: int = 0
    launches: int = 0
    trials: int = 0
    reads: int = 0
    resumed: int = 0
    problems: list[str] = field(default_factory=list)


# --- processes -----------------------------------------------------------------------------------


def launch(grid: Path, results: Path, log: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "cli.py"), "launch", str(grid), "--results", str(results), *options]
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)


def family(pid: int) -> dict[int, str]:
    """Return the command line of a process and of all that it has started, by process id."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = (entry / "stat").read_text().rpartition(")")[2].split()
            if status[0] != "Z":
                parents[int(entry.name)] = int(status[1])
                command = (entry / "cmdline").read_text(errors="replace")  # of any process at all
                names[int(entry.name)] = command.replace("\0", " ")
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {one: names[one] for one in found if one in names}


def targets(pid: int, victim: str) -> list[int]:
    """Return the processes to kill, none if the victim is not there now."""
    processes = family(pid)
    if victim == "all":
        return list(processes)
    if victim in ("driver", ALONE):
        return [pid]
    marks = {"worker": r"ray::\w+\.train\b", "raylet": "/raylet/raylet ", "GCS": "/gcs_server "}
    return sorted(one for one, name in processes.items() if re.search(marks[victim], name))[:1]  # the oldest


def strike(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# --- one sweep -----------------------------------------------------------------------------------


@contextlib.contextmanager
def reader(results: Path, tally: Tally, pause_seconds: float = 0.05) -> Iterator[None]:
    """Read both files over and over; what was there once must stay as it was."""
    closed = threading.Event()
    seen: dict[str, str] = {}

    def poll() -> None:
        while not closed.wait(pause_seconds):
            for name in ("trials", "epochs"):
                path = results / f"{name}.parquet"
                if not path.exists():
                    continue
                tally.reads += 1
                try:
                    table = pd.read_parquet(path)
                except Exception as error:  # whatever it is, it is what a user would meet
                    tally.problems.append(f"unreadable: {path.name}: {error}")
                    continue
                if name == "trials":
                    table = table[table["status"] == "done"]  # what a killed worker failed is tried again
                    now = dict(zip(table["trial_id"], table["ended_at"], strict=True))
                    tally.problems += [f"lost: {one}" for one in seen.keys() - now.keys()]
                    tally.problems += [
                        f"trained twice: {i}" for i, at in seen.items() if now.get(i, at) != at
                    ]
                    seen.update(now)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield
    finally:
        closed.set()
        thread.join()


def sweep(work: Path, grid: Path, kills: Kills, tally: Tally) -> Path:
    """Run the grid to its end, killing on the way; return its results directory."""
    results = work / f"results{tally.sweeps}"
    tally.sweeps += 1
    last = "none"
    with reader(results, tally):
        for number in range(1000):
            log = work / f"{results.name}.{number}.log"
            executor = kills.rng.choice(("ray", "serial", "serial"))
            victims = VICTIMS if executor == "ray" else (ALONE,)
            options = (
                "--executor",
                executor,
                "--cpus",
                "2",
                "--checkpoint-seconds",
                "0.2",
                "--retries",
                RETRIES,
            )
            process = launch(grid, results, log, *options)
            tally.launches += 1
            started = since = time.monotonic()
            begun, workers_killed = False, 0
            kill = kills.draw(victims)
            while process.poll() is None:
                now = time.monotonic()
                if not begun and b"started" in log.read_bytes():
                    begun, since = True, now
                if kill and (begun or kill.early) and now - since >= kill.delay_seconds:
                    hit = targets(process.pid, kill.victim)
                    strike(hit)
                    if hit:
                        tally.kills[kill.victim] += 1
                        last, since = kill.victim, now
                        kills.left -= 1
                        workers_killed += kill.victim == "worker"
                        print(f"  {now - started:5.1f} s: {kill.victim} killed", flush=True)
                        again = last == "worker" and workers_killed < MOST_WORKERS
                        kill = kills.draw(VICTIMS) if again else None
                if now - started > HANGS_AFTER_SECONDS:
                    tally.problems.append(f"hung after {last} was killed")
                    strike(list(family(process.pid)))
                time.sleep(0.02)
            text = log.read_text()
            print(f"  {time.monotonic() - started:5.1f} s: exit {process.returncode}", flush=True)
            if process.returncode == 0:
                break
            tally.exits[last, process.returncode] += 1
            # While Ray starts in the main thread, only Ray can end the process: with 1.
            expected = (-signal.SIGKILL, 2, 1) if last == "GCS" and not begun else (-signal.SIGKILL, 2)
            if "Traceback" in text or process.returncode not in expected:
                tally.problems.append(f"exit {process.returncode} after {last} was killed: {text[-1500:]}")
    return results


def contents(results: Path, name: str) -> dict[str, list[str]]:
    """Return all that must be equal, exactly, by trial."""
    table = pd.read_parquet(results / f"{name}.parquet")
    table = table[sorted(set(table.columns) - NOT_COMPARED)]
    rows: dict[str, list[str]] = {}
    for row in table.sort_values("epoch" if name == "epochs" else "trial_id").to_dict("records"):
        rows.setdefault(str(row["trial_id"]), []).append(repr(row))
    return rows


def differences(results: Path, whole: Path) -> list[str]:
    found = []
    for name in ("trials", "epochs"):
        ours, theirs = contents(results, name), contents(whole, name)
        found += [
            f"differs: {name} of {one}: {ours.get(one)} instead of {theirs.get(one)}"
            for one in sorted(ours.keys() | theirs.keys())
            if ours.get(one) != theirs.get(one)
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="kill no more after so long")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, tally = random.Random(arguments.seed), Tally()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        grid = work / "grid.yaml"
        grid.write_text(GRID)
        whole = work / "whole"
        if launch(grid, whole, work / "whole.log", "--executor", "serial").wait():
            sys.exit((work / "whole.log").read_text())
        print(f"seed {arguments.seed}", flush=True)
        kills = Kills(rng, arguments.kills, time.monotonic() + arguments.seconds)
        while kills.left:
            results = sweep(work, grid, kills, tally)
            tally.problems += differences(results, whole)
            table = pd.read_parquet(results / "trials.parquet")
            tally.trials += len(table)
            tally.resumed += int((table["resumes"] > 0).sum())
    show(tally)
    sys.exit(bool(tally.problems))


def show(tally: Tally) -> None:
    kinds = Counter(problem.partition(":")[0].split()[0] for problem in tally.problems)
    print(f"sweeps {tally.sweeps}, trials {tally.trials}, of these resumed {tally.resumed}")
    print(
        f"launches {tally.launches}, hung {kinds['hung']}, ended otherwise than they should {kinds['exit']}"
    )
    for victim in (*VICTIMS, ALONE):
        ends = [f"{n} x exit {code}" for (last, code), n in sorted(tally.exits.items()) if last == victim]
        print(f"  {victim:7} killed {tally.kills[victim]:3}; launches ended: {', '.join(ends) or '-'}")
    print(f"reads {tally.reads}, unreadable {kinds['unreadable']}")
    print(f"trials that differ {kinds['differs']}, lost {kinds['lost']}, trained twice {kinds['trained']}")
    for problem in tally.problems[:20]:
        print(f"PROBLEM {problem}")


if __name__ == "__main__":
    main()
