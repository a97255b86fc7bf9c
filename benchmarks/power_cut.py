"""Launches on a machine that loses power, beside one that was left alone.

    python benchmarks/power_cut.py [--cuts 12] [--seed 0]

Eight trials of one or two seconds on digits, checkpoints every 0.2 s, in a kernel of their own
(`_guests.py`) with an ext4 disk as Linux makes it. At random moments SIGKILL takes the kernel with all
that it had not yet written. It boots again and mounts the disk; both Parquet files are read with pandas,
every trial that was said to be recorded is looked for, and the same command goes on. At the end
of each sweep every column and every epoch is compared, bit for bit, with the undisturbed sweep's.

What a disk loses of its own cache is not part of it. Exits with 1 if anything differs, was lost, was
recorded twice, could not be read or was left behind. Needs no root but User-Mode Linux (Debian:
user-mode-linux, kmod), and a minute or two a cut, most of it Python's imports and dead leases.
"""

from __future__ import annotations

import argparse
import random
import re
import shlex
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from _guests import Guest, missing, new_disk, running
from kill_matrix import differences
from two_machines import GUEST_GRID, IN_GUEST, RUN, left, whole_in_guest

LOOK = """
import sys
from pathlib import Path
import pandas as pd
from gridrun.store import Store
results = Path(sys.argv[sys.argv.index("--results") + 1])
for path in results.glob("*.parquet"):
    pd.read_parquet(path)
print("there", *Store(results).rows(), flush=True)
"""


def sweep(work: Path, whole: Path, cuts: list[float]) -> tuple[int, list[str]]:
    """Run the grid to its end, cutting power after so many seconds of each launch.

    Returns:
        How many cuts there were, and what went wrong.
    """
    (work / "grid.yaml").write_text(GUEST_GRID)
    machine = Guest("machine", 1, work, disk=new_disk(work / "disk"))
    command = [sys.executable, "-c", LOOK + RUN, "launch", "/mnt/work/grid.yaml", "--executor", "serial"]
    command += ["--results", "/disk/results", "--checkpoint-seconds", "0.2"]
    script = f"mkdir /disk && mount -t ext4 /dev/ubda /disk || exit 1\n{IN_GUEST}{shlex.join(command)} && "
    recorded: Counter[str] = Counter()
    problems: list[str] = []
    done = 0
    with running(machine):
        while not problems:
            machine.boot(script + "cp -r /disk/results /mnt/work")
            cut = done < len(cuts) and machine.wait_for("started")
            if cut:
                time.sleep(cuts[done])
                machine.cut_power()
                done += 1
            code = machine.wait()
            there = re.search(r"^there(.*)", machine.said, re.MULTILINE)
            if there is None or code not in ((0, None) if cut else (0,)):
                problems.append(f"exit {code}: {machine.said[-2000:]}")
            elif lost := recorded.keys() - set(there[1].split()):
                problems.append(f"lost: {', '.join(sorted(lost))}")
            recorded.update(re.findall(r"^recorded (\w+)$", machine.said, re.MULTILINE))
            print(f"  cut {done}, {len(recorded)} recorded", flush=True)
            if code == 0:
                problems += differences(work / "results", whole) + left(work / "results")
                break
    return done, problems + [f"{one} recorded {n} times" for one, n in recorded.items() if n > 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cuts", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if lacking := missing():
        print(f"Left out: {lacking}.")
        return
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        (work / "grid.yaml").write_text(GUEST_GRID)
        if said := whole_in_guest(work):
            sys.exit(said)
        cuts = sweeps = broken = 0
        while cuts < arguments.cuts:
            place = work / str(sweeps)
            place.mkdir()
            planned = [rng.uniform(0, 12) for _ in range(min(6, arguments.cuts - cuts))]
            done, problems = sweep(place, work / "whole", planned)
            sweeps += 1
            cuts += done
            broken += bool(problems)
            for problem in problems:
                print(f"PROBLEM in sweep {sweeps}: {problem}", flush=True)
            if not done:
                break
    print(f"{sweeps} sweeps on a machine that lost power {cuts} times: {broken} with a problem")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
