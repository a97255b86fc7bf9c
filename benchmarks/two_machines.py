"""Two launches that share nothing but a file system with caches: is each trial trained once?

    python benchmarks/two_machines.py [--repetitions 12] [--at-once 3] [--seed 0]
    python benchmarks/two_machines.py --mount nfs [--nfs-version 4.2]

One directory, mounted twice through sshfs with its caches on, as two machines see a file server. Each
launch runs in namespaces of its own (mounts, host name, process ids), so no kernel lock of one reaches
the other and none can tell whether a process of the other lives: only leases protect. Eight
trials of one or two seconds on digits, checkpoints every 0.2 s. At a random moment SIGKILL takes
one machine, which comes back and launches again; at another SIGSTOP pauses the other for longer
than a lease lasts, and lets it go on. All the while a plain reader polls both files on the server.

With `--mount nfs` the machines are kernels of their own (`_guests.py`), four of them: a file server, two
that launch and one that reads, all three by the NFS client of Linux as it is mounted by default. SIGKILL
then takes a kernel with its cache, and the pause is longer than the server keeps a client's state.

At the end every column and every epoch is compared with those of a sweep that was left alone. Exits
with 1 if anything differs, was lost, was trained twice, could not be read or was left behind. Needs root,
sshfs and OpenSSH's sftp-server (no daemon, no network), and two minutes each; with NFS no root but
User-Mode Linux and an NFS server (Debian: user-mode-linux, kmod, nfs-kernel-server), and five.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from _guests import Guest, file_server, missing, mounting, running
from kill_matrix import GRID as LARGER
from kill_matrix import NOT_COMPARED, ROOT, Tally, differences, launch, reader

from gridrun.store.leases import DURATION_SECONDS

GRID = LARGER.replace("seeds: 2", "seeds: 1")
NOT_COMPARED |= {"host", "commit", "dirty"}  # what the machines are, and what is edited meanwhile
GUEST_GRID = GRID.replace("epochs: [4, 12]", "epochs: [2, 5]")
"""Kernels of User-Mode Linux are slower."""
PAUSE_SECONDS = 1.25 * DURATION_SECONDS
NFS_PAUSE_SECONDS = 1.25 * 90
"""Linux's NFS server forgets a client that has been silent for 90 s."""
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


READ = """
import sys, time
from pathlib import Path
from kill_matrix import Tally, reader
tally = Tally()
with reader(Path(sys.argv[1]), tally, pause_seconds=0.5):
    while not Path(sys.argv[2]).exists():
        time.sleep(0.5)
print("reads", tally.reads)
for problem in tally.problems:
    print("PROBLEM", problem)
"""
IN_GUEST = f"""
export PYTHONPATH={ROOT}:{ROOT}/benchmarks
cd {ROOT}
"""


class Launcher(Protocol):
    """A machine that launches the grid, as often as it is told to."""

    name: str
    logs: list[Path]

    def launch(self) -> None: ...
    def wait_for(self, text: str) -> bool: ...
    def send(self, number: signal.Signals) -> None: ...
    def wait(self) -> int | None: ...


class Machine:
    """Sees the store through a mount of its own; one launch at a time."""

    def __init__(self, name: str, work: Path, server: Path) -> None:
        self.name, self.work, self.server = name, work, server
        self.mount = work / name
        self.mount.mkdir()
        self.logs: list[Path] = []

    def launch(self) -> None:
        """Start a launch."""
        self.logs.append(self.work / f"{self.name}{len(self.logs)}.log")
        with self.logs[-1].open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"),
                    *("sh", "-c", MACHINE, "sh", self.name, self.server, self.work / "store", self.mount),
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

    def wait(self) -> int:
        """Wait for the launch's end; return its exit code."""
        return self.process.wait()


class Client(Guest):
    """Sees the store through NFS."""

    def __init__(self, name: str, number: int, work: Path, mount: str) -> None:
        super().__init__(name, number, work, modules="nfsv3 nfsv4")
        self.mount = mount

    def launch(self) -> None:
        """Switch it on and start a launch."""
        command = [sys.executable, "-c", RUN, "launch", "/mnt/work/grid.yaml", "--executor", "serial"]
        command += ["--results", "/mnt/export/results", "--checkpoint-seconds", "0.2"]
        self.boot(self.mount + IN_GUEST + shlex.join(command))


def repeat(work: Path, server: Path, whole: Path, rng: random.Random) -> tuple[list[str], Tally]:
    """Run one sweep on two machines; return what went wrong."""
    results, tally = work / "store" / "results", Tally()
    results.mkdir(parents=True)
    with reader(results, tally):
        problems = disturb(Machine("one", work, server), Machine("two", work, server), PAUSE_SECONDS, rng)
    return problems + tally.problems + differences(results, whole) + left(results), tally


def repeat_on_nfs(work: Path, version: str, whole: Path, rng: random.Random) -> tuple[list[str], Tally]:
    """Run one sweep on two kernels that share an NFS; return what went wrong."""
    tally = Tally()
    server = file_server(work)
    mount = mounting(server, version)
    one, two, three = (
        Client(name, number, work, mount) for number, name in enumerate(("one", "two", "three"), start=1)
    )
    with running(server, one, two, three):
        read = shlex.join([sys.executable, "-c", READ, "/mnt/export/results", "/mnt/work/enough"])
        three.boot(f"{mount}{IN_GUEST}{read} && cp -r /mnt/export/results /mnt/work")
        problems = disturb(one, two, NFS_PAUSE_SECONDS, rng)
        (work / "enough").touch()
        if three.wait():
            problems.append(f"the reader: {three.said[-2000:]}")
    tally.reads = int("".join(re.findall(r"^reads (\d+)", three.said, re.MULTILINE)) or 0)
    problems += re.findall(r"^PROBLEM (.*)", three.said, re.MULTILINE)
    return problems + differences(work / "results", whole) + left(work / "results"), tally


def disturb(killed: Launcher, paused: Launcher, pause_seconds: float, rng: random.Random) -> list[str]:
    """Launch on both machines, kill the one and pause the other; return what went wrong."""
    problems = []
    for machine in (killed, paused):
        machine.launch()
    for machine, number in ((paused, signal.SIGSTOP), (killed, signal.SIGKILL)):
        if machine.wait_for("started"):
            time.sleep(rng.uniform(0, 4))
            machine.send(number)
    killed.wait()
    killed.launch()
    time.sleep(pause_seconds)
    paused.send(signal.SIGCONT)
    for machine in (killed, paused):
        if (code := machine.wait()) != 0:
            problems.append(f"{machine.name}: exit {code}: {machine.logs[-1].read_text()[-800:]}")
    said = "".join(log.read_text().replace("\r", "") for one in (killed, paused) for log in one.logs)
    recorded = Counter(re.findall(r"^recorded (\w+)", said, re.MULTILINE))
    return problems + [f"{trial} recorded {times} times" for trial, times in recorded.items() if times > 1]


def left(results: Path) -> list[str]:
    """Return what should not be there any more."""
    known = {"trials.parquet", "epochs.parquet", "README"}
    return [
        f"left: {path.relative_to(results)}"
        for path in results.rglob("*")
        if path.is_file() and path.name not in known and path.parent.name not in ("asked", "launches")
    ]


def whole_in_guest(work: Path) -> str | None:
    """Run the sweep on one kernel that is left alone; return what it said if it failed."""
    guest = Guest("whole", 1, work)
    command = [sys.executable, str(ROOT / "cli.py"), "launch", "/mnt/work/grid.yaml", "--executor", "serial"]
    with running(guest):
        guest.boot(f"{IN_GUEST}{shlex.join(command)} --results /run/whole && cp -r /run/whole /mnt/work")
        return guest.said if guest.wait() != 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mount", choices=("sshfs", "nfs"), default="sshfs")
    parser.add_argument("--nfs-version", default="4.2")
    parser.add_argument("--repetitions", type=int, default=12)
    parser.add_argument("--at-once", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sftp = next(filter(os.path.exists, SFTP_SERVERS), None)
    nfs = arguments.mount == "nfs"
    if nfs and (lacking := missing(server=True)):
        print(f"Left out: {lacking}.")
        return
    if not nfs and (os.geteuid() or not sftp or not shutil.which("sshfs")):
        print("Left out: needs root, sshfs and OpenSSH's sftp-server (Debian: sshfs, openssh-sftp-server).")
        return
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        server = work / "server"
        server.write_text(f"#!/bin/sh\nexec {sftp}\n")
        server.chmod(0o755)
        grid = work / "grid.yaml"
        grid.write_text(GUEST_GRID if nfs else GRID)
        if nfs and (said := whole_in_guest(work)):
            sys.exit(said)
        if not nfs and launch(grid, work / "whole", work / "whole.log", "--executor", "serial").wait():
            sys.exit((work / "whole.log").read_text())

        def one(number: int) -> tuple[list[str], Tally]:
            place = work / str(number)
            place.mkdir()
            shutil.copy(grid, place)
            rng = random.Random(f"{arguments.seed}/{number}")
            if nfs:
                return repeat_on_nfs(place, arguments.nfs_version, work / "whole", rng)
            return repeat(place, server, work / "whole", rng)

        broken = reads = 0
        with ThreadPoolExecutor(arguments.at_once) as pool:
            for number, (problems, tally) in enumerate(pool.map(one, range(arguments.repetitions))):
                broken += bool(problems)
                reads += tally.reads
                for problem in problems:
                    print(f"PROBLEM in repetition {number}: {problem}", flush=True)
        how = f"NFS {arguments.nfs_version}" if nfs else "sshfs"
        print(f"{arguments.repetitions} sweeps on two machines ({how}), one killed, one paused: ", end="")
        print(f"{broken} with a problem; {reads} reads")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
