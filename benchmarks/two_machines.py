"""Two launches that share nothing but a file system with caches: is each trial trained once?

    python benchmarks/two_machines.py [--repetitions 12] [--at-once 3] [--seed 0]

One directory, mounted twice through sshfs with its caches on, as two machines see a file server. Each
launch runs in namespaces of its own (mounts, host name, process ids), so no kernel lock of one reaches
the other and none can tell whether a process of the other lives: only leases protect. Eight
trials of one or two seconds on digits, checkpoints every 0.2 s. At a random moment SIGKILL takes
one machine, which comes back and launches again; at another SIGSTOP pauses the other for longer
than a lease lasts, and lets it go on. All the while a plain reader polls both files on the server.

At the end every column and every epoch is compared with those of a sweep that was left alone. Exits
with 1 if anything differs, was lost, was trained twice, could not be read or was left behind. Needs root,
sshfs and OpenSSH's sftp-server (no daemon, no network), and two minutes each.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kill_matrix import GRID as LARGER
from kill_matrix import NOT_COMPARED, ROOT, Tally, differences, launch, reader

from gridrun.leases import DURATION_SECONDS

GRID = LARGER.replace("seeds: 2", "seeds: 1")
NOT_COMPARED |= {"host", "commit", "dirty"}  # what the machines are, and what is edited meanwhile
PAUSE_SECONDS = 1.25 * DURATION_SECONDS
SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
)
RUN = """
import sys
from gridrun.store import Store
add = Store.add
def noted(store, record):
    add(store, record)
    print("recorded", record.trial_id, flush=True)
Store.add = noted
import cli
cli.main(sys.argv[1:])
"""
MACHINE = """
hostname "$1" && sshfs -o "ssh_command=$2" server:"$3" "$4" || exit 99
shift 4
exec "$@"
"""


class Machine:
    """Sees the store through a mount of its own; one launch at a time."""

    def __init__(self, name: str, work: Path) -> None:
        self.name, self.work = name, work
        self.mount = work / name
        self.mount.mkdir()
        self.logs: list[Path] = []

    def launch(self, server: Path) -> None:
        """Start a launch."""
        self.logs.append(self.work / f"{self.name}{len(self.logs)}.log")
        with self.logs[-1].open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"),
                    *("sh", "-c", MACHINE, "sh", self.name, server, self.work / "store", self.mount),
                    *(sys.executable, "-c", RUN, "launch", self.work / "grid.yaml"),
                    *("--executor", "serial", "--results", self.mount / "results"),
                    *("--checkpoint-seconds", "0.2"),
                ],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, text: str) -> bool:
        """Wait until the launch says so; return whether it did."""
        while text not in self.logs[-1].read_text():
            if self.process.poll() is not None:
                return False
            time.sleep(0.02)
        return True

    def send(self, number: signal.Signals) -> None:
        """Send the launch a signal; it is the first process of its namespace, and takes the mount with it."""
        pid = self.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), number)


def repeat(work: Path, server: Path, whole: Path, rng: random.Random) -> tuple[list[str], Tally]:
    """Run one sweep on two machines; return what went wrong."""
    (work / "store" / "results").mkdir(parents=True)
    (work / "grid.yaml").write_text(GRID)
    results, tally = work / "store" / "results", Tally()
    killed, paused = (Machine(name, work) for name in ("one", "two"))
    problems: list[str] = []
    with reader(results, tally):
        for machine in (killed, paused):
            machine.launch(server)
        for machine, number in ((paused, signal.SIGSTOP), (killed, signal.SIGKILL)):
            if machine.wait_for("started"):
                time.sleep(rng.uniform(0, 4))
                machine.send(number)
        killed.process.wait()
        killed.launch(server)
        time.sleep(PAUSE_SECONDS)
        paused.send(signal.SIGCONT)
        for machine in (killed, paused):
            if machine.process.wait():
                problems.append(f"exit {machine.process.returncode}: {machine.logs[-1].read_text()[-800:]}")
    said = "".join(log.read_text() for machine in (killed, paused) for log in machine.logs)
    recorded = Counter(re.findall(r"^recorded (\w+)", said, re.MULTILINE))
    problems += [f"{trial} recorded {times} times" for trial, times in recorded.items() if times > 1]
    problems += tally.problems + differences(results, whole)
    known = {"trials.parquet", "epochs.parquet", "README"}
    for path in results.rglob("*"):
        if path.is_file() and path.name not in known and path.parent.name not in ("asked", "launches"):
            problems.append(f"left: {path.relative_to(results)}")
    return problems, tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=12)
    parser.add_argument("--at-once", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sftp = next(filter(os.path.exists, SFTP_SERVERS), None)
    if os.geteuid() or not sftp or not shutil.which("sshfs"):
        print("Left out: needs root, sshfs and OpenSSH's sftp-server (Debian: sshfs, openssh-sftp-server).")
        return
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        server = work / "server"
        server.write_text(f"#!/bin/sh\nexec {sftp}\n")
        server.chmod(0o755)
        grid = work / "grid.yaml"
        grid.write_text(GRID)
        if launch(grid, work / "whole", work / "whole.log", "--executor", "serial").wait():
            sys.exit((work / "whole.log").read_text())

        def one(number: int) -> tuple[list[str], Tally]:
            place = work / str(number)
            place.mkdir()
            return repeat(place, server, work / "whole", random.Random(f"{arguments.seed}/{number}"))

        broken = reads = 0
        with ThreadPoolExecutor(arguments.at_once) as pool:
            for number, (problems, tally) in enumerate(pool.map(one, range(arguments.repetitions))):
                broken += bool(problems)
                reads += tally.reads
                for problem in problems:
                    print(f"PROBLEM in repetition {number}: {problem}", flush=True)
        print(f"{arguments.repetitions} sweeps on two machines, one killed, one paused: ", end="")
        print(f"{broken} with a problem; {reads} reads")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
