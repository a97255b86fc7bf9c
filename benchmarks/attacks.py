"""What an attacker and bad luck can do to a launch and its results, each tried in a process of its own.

    python benchmarks/attacks.py [--only NAME]

Pickles that run a command in place of checkpoints and kept weights; a Parquet file that unpacks to a billion
rows; kills within compaction; clocks that jump; a grid edited, or deleted, while it is launched; `retry` and
`status --watch` beside launches; Ray's processes killed by hand, as `ray stop --force` does (which would end
other users' Ray too); no room in /dev/shm, no memory, no processes, no open files; an unwritable HOME. Limits
are set for the attacked process alone. Each attack prints what it found; exits with 1 if one succeeded.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gridrun.grid import load_grid
from gridrun.store import Store

ROOT = Path(__file__).parent.parent
GRID = """
base:
  model: {name: resnet_preact, depth: 8, initial_channels: 4}
  train_size: 100
  batch_size: 50
  epochs: 1
axes: [{lr: [0.1, 0.2, 0.3, 0.4]}]
"""
BAD = re.compile(r"Traceback|Fatal Python error|SIGSEGV|StackTrace")
SERIAL = ("--executor", "serial", "--gpus", "0")
LIMIT_SECONDS = 240.0


class Succeeded(Exception):
    """An attack did what it should not."""


def check(held: bool, what: str) -> None:
    if not held:
        raise Succeeded(what)


def gridrun(*arguments: str, **options: object) -> subprocess.Popen[str]:
    """Start gridrun in the current directory, with stdout and stderr in one pipe."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}  # type: ignore[dict-item]
    return subprocess.Popen(
        [*options.pop("before", ()), sys.executable, str(ROOT / "cli.py"), *arguments],  # type: ignore[misc]
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,  # type: ignore[call-overload]
    )


def said(process: subprocess.Popen[str], *codes: int) -> str:
    """Wait for the end of a process that must have one of these exit codes and no traceback."""
    try:
        text, _ = process.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise Succeeded(f"hangs: {process.communicate()[0][-500:]}") from None
    check(process.returncode in codes, f"exit {process.returncode}: {text[-1500:]}")
    check(not BAD.search(text), f"a traceback: {text[-1500:]}")
    return text


def launch(*arguments: str) -> tuple[str, ...]:
    return ("launch", "grid.yaml", *arguments)


def statuses() -> dict[str, str]:
    return dict(Store(Path("results")).statuses())


# --- files ----------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.system, (f"touch {Path.cwd() / 'exploded'}",)


def pickles() -> str:
    """Pickles in place of a checkpoint, of kept weights and of a set of them."""
    import hashlib
    import io

    import torch

    check(" done" in said(gridrun(*launch(*SERIAL, "--keep-checkpoint", "last")), 0), "no trial is done")
    (trial_id, *_) = statuses()
    buffer = io.BytesIO()
    torch.save({"trial": Bomb()}, buffer)
    for content in (pickle.dumps(Bomb()), buffer.getvalue()):
        signed = content + hashlib.sha256(content).digest()
        Path(f"results/checkpoints/{trial_id}.pt").write_bytes(signed)
        refused = said(gridrun("evaluate", trial_id), 2)
        said(gridrun("features", f"results/checkpoints/{trial_id}.pt", "--out", "f.npz"), 2)
        shutil.rmtree("results/.work/checkpoints", ignore_errors=True)
        Path("results/.work/checkpoints").mkdir(parents=True)
        for lr in ("0.1", "0.2", "0.3", "0.4"):
            for trial in load_grid(Path("grid.yaml")).trials:
                Path(f"results/.work/checkpoints/{trial.trial_id}.pt").write_bytes(signed)
            said(gridrun(*launch(*SERIAL, "--again", "all", "--where", f"lr={lr}")), 0)
            break
        check(not Path("exploded").exists(), "a pickle was run")
    return refused.strip().splitlines()[-1]


def parquet_bomb() -> str:
    """A file of a few KB whose footer names one row group so often that a billion rows would be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    store = _store_of_one_record()
    one = pq.read_table(store.trials_path)
    table = pa.table({name: pa.repeat(one[name][0], 10**6) for name in one.column_names})
    pq.write_table(
        table.replace_schema_metadata({b"gridrun.format": b"1"}), "one.parquet", compression="zstd"
    )
    whole, metadata = Path("one.parquet").read_bytes(), pq.read_metadata("one.parquet")
    many = pq.read_metadata("one.parquet")
    for _ in range(10):
        many.append_row_groups(many if _ else metadata)
    footer = pa.BufferOutputStream()
    many.write_metadata_file(footer)
    start = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    Path("results/trials.parquet").write_bytes(whole[:start] + footer.getvalue().to_pybytes()[4:])
    size = Path("results/trials.parquet").stat().st_size
    text = said(gridrun("status", preexec_fn=_limited(resource.RLIMIT_AS, 4 * 2**30)), 2)
    return f"{many.num_rows} rows in {size} bytes: {text.strip()}"


def _store_of_one_record() -> Store:
    from _idle import record

    from gridrun.store.records import Provenance

    store = Store(Path("results"))
    store.create()
    store.add(record(load_grid(Path("grid.yaml")).trials[0], Provenance()))
    store.compact(now=True)
    return store


def compaction_kills(number: int = 2000) -> str:
    """SIGKILL at a random moment of a compaction; then nothing is lost, twice there, or unreadable.

    One store after the other, since the cost of a compaction grows with what the store holds.
    """
    killed, rng = 0, random.Random(1)
    for start in range(0, number, TRIALS_A_STORE):
        seeds = range(start, min(start + TRIALS_A_STORE, number))
        killed += _kill_compactions(Path(f"results{start}"), seeds, rng)
    return f"{killed} of {number} compactions killed, all {number} records read back"


TRIALS_A_STORE = 50


def _kill_compactions(root: Path, seeds: range, rng: random.Random) -> int:
    """Compact a store after each new record, and kill that; return how often there was something to kill."""
    from _idle import record

    from gridrun.store.records import Provenance
    from gridrun.trial import Trial

    config = load_grid(Path("grid.yaml")).trials[0].config
    store = Store(root)
    store.create()
    added, killed, whole = set[str](), 0, 0.0
    for seed in seeds:
        trial = Trial(config, seed)
        store.add(record(trial, Provenance(), epochs=2))
        added.add(trial.trial_id)
        if not (pid := os.fork()):
            with contextlib.suppress(BaseException):
                store.compact(now=True)
            os._exit(0)
        if seed % 10:  # every tenth is left alone, and shows how long one takes
            time.sleep(rng.uniform(0, 1.2 * whole))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        started = time.monotonic()
        killed += os.waitpid(pid, 0)[1] == signal.SIGKILL
        whole = whole if seed % 10 else time.monotonic() - started
        if seed % 10 == 9:
            found = store.rows()
            check(found.keys() == added, f"after {seed + 1}: {len(found)} of {len(added)} records")
    store.compact(now=True)
    check(store.rows().keys() == added, "records are lost")
    epochs = store.epochs(added)
    check(all(len(rows) == 2 for rows in epochs.values()), "epochs are lost, or there twice")
    left = [path.name for path in (root / ".work/ended").iterdir()]
    left += [path.name for path in root.iterdir()]
    left = sorted(set(left) - {".work", "trials.parquet", "epochs.parquet"})
    check(not left, f"left: {left[:5]}")
    return killed


# --- clocks, grids and other commands -------------------------------------------------------------

JUMPING = """
import datetime, itertools, sys, time
sys.path.insert(0, {root!r})
from gridrun import text
jumps, real = itertools.cycle([0, 86400, -86400, 86400 * 365, -86400 * 365]), time.time
time.time = lambda: real() + next(jumps)
utc = datetime.timezone.utc
text.utc_now = lambda: datetime.datetime.fromtimestamp(time.time(), utc).isoformat(timespec="microseconds")
import cli
cli.main(sys.argv[1:])
"""


def clock_jumps() -> str:
    """The wall clock jumps by a day or a year at every look, forward and back."""
    Path("jump.py").write_text(JUMPING.format(root=str(ROOT)))
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "jump.py", *launch(*SERIAL)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        text = said(process, 0)
    check(list(statuses().values()) == ["done"] * 4, f"{statuses()}")
    check("Nothing to do: 4 done" in text, text)
    rows = json.loads(said(gridrun("table", "grid.yaml", "--format", "json"), 0))
    return f"4 trials done once, {len(rows)} table"


def edited_grid() -> str:
    """The grid is damaged, then deleted, while its launch runs."""
    process = gridrun(*launch(*SERIAL))
    assert process.stdout
    for line in process.stdout:
        if line.startswith("started"):
            break
    Path("grid.yaml").write_text("base: [")
    time.sleep(0.5)
    Path("grid.yaml").unlink()
    text = said(process, 0)
    check("4 done of 4 trials" in text, text)
    return "the launch goes on with what it has read"


def commands_beside_launches() -> str:
    """`status --watch`, `retry` and `table` beside two launches."""
    Path("grid.yaml").write_text(GRID.replace("epochs: 1", "epochs: 8"))
    watch = gridrun("status", "grid.yaml", "--watch")
    both = [gridrun(*launch(*SERIAL)) for _ in range(2)]
    calls = 0
    while any(process.poll() is None for process in both):
        said(gridrun("table", "grid.yaml"), 0)
        said(gridrun("retry", "grid.yaml", "--failed", *SERIAL), 0)
        calls += 2
    for process in both:
        said(process, 0)
    watch.send_signal(signal.SIGINT)
    said(watch, 0, 130)
    check(list(statuses().values()) == ["done"] * 4, f"{statuses()}")
    return f"{calls} commands beside two launches"


# --- limits ---------------------------------------------------------------------------------------


def _limited(what: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(what, (value, value))


def ray_killed_by_hand() -> str:
    """All processes of a launch's Ray are killed while it trains; the same command goes on."""
    from gridrun.executors.ray.watcher import users

    Path("grid.yaml").write_text(GRID.replace("epochs: 1", "epochs: 200"))
    with tempfile.TemporaryDirectory(prefix="gr") as temp:
        process = gridrun(*launch("--cpus", "1"), env={"TMPDIR": temp})
        assert process.stdout
        for line in process.stdout:
            if line.startswith("started"):
                break
        time.sleep(3)
        for pid in users(temp):
            if pid != process.pid and os.readlink(f"/proc/{pid}/exe") != "":  # noqa: PTH115
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        text = said(process, 2)
        check("nothing is lost" in text, text)
    said(gridrun(*launch(*SERIAL)), 0)
    check(list(statuses().values()) == ["done"] * 4, f"{statuses()}")
    return text.strip().splitlines()[-1]


def no_open_files() -> str:
    """A launch may open 40 files only."""
    process = gridrun(*launch("--cpus", "1"), preexec_fn=_limited(resource.RLIMIT_NOFILE, 40))
    return said(process, 1, 2).strip().splitlines()[-1]


def no_memory() -> str:
    """A serial launch may have 3 GiB of address space, and a network wants more."""
    Path("grid.yaml").write_text(
        GRID.replace("depth: 8, initial_channels: 4", "depth: 8, initial_channels: 2000").replace(
            "[0.1, 0.2, 0.3, 0.4]", "[0.1]"
        )
    )
    limit = _limited(resource.RLIMIT_AS, 5 * 2**30)
    text = said(gridrun(*launch(*SERIAL), preexec_fn=limit), 1)
    check("host_memory" in text, text)
    return next(line for line in text.splitlines() if "host_memory" in line)


def no_processes() -> str:
    """A launch may have no more processes, in a control group of its own."""
    with _control_group("pids.max", "3") as before:
        text = said(gridrun(*launch("--cpus", "1"), before=before), 1, 2)
    return text.strip().splitlines()[-1]


def no_group_memory() -> str:
    """A launch on Ray has 600 MiB in a control group: the kernel kills workers, or all of it."""
    with _control_group("memory.max", str(600 * 2**20)) as before:
        process = gridrun(*launch("--cpus", "1"), before=before)
        text = said(process, 1, 2, -signal.SIGKILL, 137)
    said(gridrun(*launch(*SERIAL, "--retry")), 0)
    return f"exit {process.returncode}: {(text.strip().splitlines() or [''])[-1]}"


@contextlib.contextmanager
def _control_group(name: str, value: str) -> Iterator[tuple[str, ...]]:
    """Yield the beginning of a command that runs in a control group with this limit."""
    group = Path(f"/sys/fs/cgroup/gridrun-{os.getpid()}")
    if not (group.parent / "cgroup.controllers").exists():
        raise Skipped("there are no control groups of version 2 here")
    try:
        group.mkdir()
        (group / name).write_text(value)
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        raise Skipped(f"control groups cannot be made here ({error})") from None
    try:
        yield ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.5)
        group.rmdir()


class Skipped(Exception):
    """What an attack needs is not here."""


def full_shared_memory() -> str:
    """/dev/shm has 1 MiB: Ray's object store does not fit."""
    before = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=1M x /dev/shm && exec "$@"', "sh")
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        raise Skipped("no file systems may be mounted here")
    text = said(gridrun(*launch("--cpus", "1"), before=before), 0, 2)
    return text.strip().splitlines()[-1]


def unwritable_home() -> str:
    """HOME is a directory that cannot be made."""
    env = {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": "", "GRIDRUN_CACHE": ""}
    said(gridrun("plan", "grid.yaml", env=env), 0)
    text = said(gridrun(*launch(*SERIAL), env=env), 2)
    said(gridrun(*launch("--cpus", "1"), env={"HOME": "/proc/nowhere"}), 0)
    return text.strip().splitlines()[-1]


ATTACKS = (
    *(pickles, parquet_bomb, compaction_kills, clock_jumps, edited_grid, commands_beside_launches),
    *(ray_killed_by_hand, no_open_files, no_memory, no_processes, no_group_memory),
    *(full_shared_memory, unwritable_home),
)


def main() -> None:
    names = [attack.__name__ for attack in ATTACKS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--kills", type=int, default=2000, help="of compactions")
    arguments = parser.parse_args()
    succeeded = 0
    os.environ.setdefault("GRIDRUN_CACHE", tempfile.mkdtemp(prefix="gridrun-cache"))
    for attack in ATTACKS:
        if arguments.only in (None, attack.__name__):
            with tempfile.TemporaryDirectory() as directory:
                os.chdir(directory)
                Path("grid.yaml").write_text(GRID)
                started = time.monotonic()
                try:
                    given = {"number": arguments.kills} if attack is compaction_kills else {}
                    result = f"held: {attack(**given)}"
                except Skipped as error:
                    result = f"skipped: {error}"
                except Succeeded as error:
                    succeeded += 1
                    result = f"SUCCEEDED: {error}"
                print(f"{attack.__name__} ({time.monotonic() - started:.0f} s) {result}", flush=True)
                os.chdir(ROOT)
    sys.exit(bool(succeeded))


if __name__ == "__main__":
    main()
