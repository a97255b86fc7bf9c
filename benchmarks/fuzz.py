"""Damaged grid files, stores and checkpoints: each must be answered, none may break anything.

    python benchmarks/fuzz.py [--inputs 2000] [--seed 0] [grids | stores | checkpoints]

A command may succeed or refuse (exit 0, 1 or 2 with a message); it must not show a traceback, hang,
write outside `results/` or change a Parquet file that it cannot read. Prints how many inputs were
accepted and refused, and every one that broke a rule with its number: `--seed` and number give the
same input again. `tests/test_fuzz.py` runs some of each.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from click.testing import CliRunner

import cli
from gridrun import resources
from gridrun.grid import load_grid
from gridrun.store import Store
from gridrun.store.records import Provenance, Record
from gridrun.sweep import worker
from gridrun.text import utc_now
from trainer import Runtime
from trainer.metrics import Epoch

ROOT = Path(__file__).parent.parent
HANGS_AFTER_SECONDS = 60
ODD_VALUES: list[Any] = [
    *(None, True, 0, -1, 3, 10**30, 0.1, -0.0, 1e308, "", "lr", "1e-3", "../../x", "\x1b[31m", "é" * 300),
    *([], {}, [[]], [None], {"name": "resnet"}, {"": 1}, {"lr": [1]}, "${HOME}", "!!python/object:os.system"),
    *(float("nan"), float("inf"), "9" * 5000, [1, 2, 3], {"x": {"y": {"z": 1}}}),
]


class Broken(Exception):
    """A rule that does not hold."""


# --- mutations -----------------------------------------------------------------------------------


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Return bytes with something flipped, cut, doubled, removed or put in."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at, to = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        match rng.randrange(6):
            case 0 if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:]
            case 2:
                data[at:at] = data[at:to][:200]
            case 3:
                del data[at : min(to, at + 50)]
            case 4:
                data[at:at] = rng.choice(
                    (b"\0", b"[" * 5000, b"{", b"&a *a", b"\xff\xfe", b"- ", b": ", b"\t", b"<<: ")
                )
            case 5:
                data[at : min(to, at + 20)] = rng.randbytes(min(to, at + 20) - at)
    return bytes(data)


def changed(value: Any, rng: random.Random) -> Any:
    """Return plain nested data with one place of it changed."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        match rng.randrange(8):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {**value, rng.choice((f"{key}s", key[:-1], "lr", "", "a.b.c")): value[key]}
            case _:
                return {**value, key: changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        match rng.randrange(6):
            case 0:
                return [*value, copy.deepcopy(value[at])]
            case 1:
                return value[:at] + value[at + 1 :]
            case _:
                return [*value[:at], changed(value[at], rng), *value[at + 1 :]]
    return rng.choice(ODD_VALUES)


# --- one command ---------------------------------------------------------------------------------


def answer(*arguments: object) -> int:
    """Run a command in this process and return its exit code.

    Raises:
        Broken: it raised or ended in another way than commands do.
    """
    result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
    said = " ".join(map(str, arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        trace = "".join(traceback.format_exception(result.exception))
        raise Broken(f"{said}: {trace}")
    if result.exit_code not in (0, 1, 2) or "Traceback" in result.stderr:
        raise Broken(f"{said}: exit {result.exit_code}: {result.stderr}")
    if result.exit_code == 2 and len(result.stderr) < 10:
        raise Broken(f"{said}: refused without a word")
    return result.exit_code


def digests(directory: Path) -> dict[str, str]:
    """Return what a directory holds: file names and contents."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(directory.rglob("*"))
    }


# --- grids ---------------------------------------------------------------------------------------


def grid(rng: random.Random, work: Path) -> str:
    """Plan a mutation of one of the project's grids."""
    shutil.copytree(ROOT / "grids", work / "grids", dirs_exist_ok=True)
    source = rng.choice(sorted((ROOT / "grids").glob("*.yaml")))
    path = work / "grids" / "fuzzed.yaml"
    if rng.random() < 0.5:
        path.write_bytes(damaged(source.read_bytes(), rng))
    else:
        value = yaml.safe_load(source.read_text())
        for _ in range(rng.choice((1, 1, 2, 4))):
            value = changed(value, rng)
        path.write_text(yaml.safe_dump(value, allow_unicode=True))
    return "accepted" if answer("plan", path, "--results", work / "results") == 0 else "refused"


# --- stores --------------------------------------------------------------------------------------

SMALL = """
base:
  model: {name: resnet_preact, depth: 8, initial_channels: 4}
  train_size: 100
  batch_size: 50
  epochs: 2
axes: [{lr: [0.1, 0.2, 0.3]}]
seeds: 2
"""


def record(trial: Any, status: str) -> Record:
    numbers = {"lr": 0.1, "train_loss": 0.5, "train_error": 0.5, "test_loss": 0.5, "test_error": 0.25}
    return Record(
        **worker.identity_of(trial),
        status=status,  # type: ignore[arg-type]
        test_error=0.25 if status == "done" else None,
        error=None if status == "done" else "an error",
        ended_at=utc_now(),
        epochs=tuple(Epoch(epoch=number, train_seconds=1.0, **numbers) for number in (1, 2)),
    )


def make_store(work: Path) -> Path:
    """Make a store in which every trial of a small grid has ended; return the grid."""
    grid = work / "small.yaml"
    grid.write_text(SMALL)
    store = Store(work / "results")
    store.create()
    trials = load_grid(grid).trials
    for number, trial in enumerate(trials):
        store.add(record(trial, "failed" if number == 1 else "done"))
        if number == 3:
            store.compact(now=True)
    (work / "results/.work/launches/0123456789abcdef.json").write_text('{"running": []}')
    return grid


def damage_store(results: Path, outside: Path, rng: random.Random) -> str:
    """Harm something in a store; return what."""
    places = sorted(path for path in results.rglob("*") if path.name != "README")
    place = rng.choice(places)
    kind = rng.choice(("bytes", "link", "directory", "foreign", "json", "empty", "gone", "value"))
    if kind in ("bytes", "value") and (place.is_symlink() or not place.is_file()):
        kind = "link"
    content, value = place.read_bytes() if place.is_file() else b"", None
    if kind == "value":
        with contextlib.suppress(ValueError):  # no JSON, or damaged before
            value = json.loads(content)
    if isinstance(value, dict):
        place.write_text(json.dumps(changed(value, rng)))
    elif kind in ("bytes", "value"):
        place.write_bytes(damaged(content, rng))
    elif kind == "json":
        name = rng.choice(("00000000000000aa", "x", "../x".replace("/", "_"), "A" * 16))
        text = rng.choice(
            ("", "[]", "null", "{}", "[" * 100_000, '{"trial_id": "../../outside/theirs"}', "\0")
        )
        directory = results / ".work" / rng.choice(("ended", "launches"))
        if directory.is_dir() and not (results / ".work").is_symlink() and not directory.is_symlink():
            (directory / f"{name}.json").write_text(text)
    else:
        shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()
        if kind == "link":
            place.symlink_to(rng.choice((outside, outside / "theirs.json", outside / "nothing", place)))
        elif kind == "directory":
            place.mkdir()
        elif kind == "empty":
            place.touch()
        elif kind == "foreign":
            table = pa.table({"trial_id": ["x"], "status": [1]})
            pq.write_table(table, place)
            if rng.random() < 0.5:  # and says that it is ours
                pq.write_table(table.replace_schema_metadata({"gridrun.format": "1"}), place)
    return f"{kind} {place.relative_to(results)}"


def store(rng: random.Random, work: Path) -> str:
    """Use a damaged store in every way that trains nothing, then try to add to it."""
    grid, outside = make_store(work), work / "outside"
    outside.mkdir()
    for name in ("theirs.json", "theirs", "theirs.lock"):
        (outside / name).write_text("theirs")
    trial_id = load_grid(grid).trials[0].trial_id
    results = work / "results"
    harm = [damage_store(results, outside, rng) for _ in range(rng.choice((1, 1, 2)))]
    before, theirs = digests(results), digests(outside)
    try:
        codes = [
            answer(*arguments, "--results", results)
            for arguments in (["status"], ["plan", grid], ["table", grid], ["show", trial_id])
        ]
        if digests(results) != before:
            raise Broken("looking has changed the store")
        codes.append(answer("launch", grid, "--executor", "serial", "--results", results))
        if digests(outside) != theirs:
            raise Broken("written outside of the store")
        for name in ("trials.parquet", "epochs.parquet"):
            path = str(results / name)
            if codes[-1] == 2 and path in before and digests(results).get(path) != before[path]:
                answer("status", "--results", results)
                if not readable(results / name):
                    raise Broken(f"{name} was changed and cannot be read")
    except Broken as error:
        raise Broken(f"{harm}: {error}") from None
    return "accepted" if codes[-1] < 2 else "refused"


def readable(path: Path) -> bool:
    try:
        pq.read_table(path)
    except (pa.ArrowException, OSError):
        return False
    return True


# --- checkpoints ---------------------------------------------------------------------------------


def checkpoint(rng: random.Random, work: Path) -> str:
    """Go on with a trial whose checkpoint is damaged."""
    grid, results = work / "small.yaml", work / "results"
    grid.write_text(SMALL)
    trial, kept = load_grid(grid).trials[0], Store(results)
    kept.create()
    runtime = Runtime(cache_dir=resources.default_cache_dir(), checkpoint_seconds=0)
    setup = worker.Setup(results=results, runtime=runtime, code=Provenance(), stop_file=work / "never")

    def stop(*_: object) -> None:
        raise InterruptedError

    with contextlib.suppress(InterruptedError):
        worker.run_trial(trial, setup, stop)
    path = kept.checkpoint(trial.trial_id)
    whole = path.read_bytes()
    path.write_bytes(damaged(whole, rng))
    if path.read_bytes() == whole:
        return "accepted"
    arguments = ("launch", grid, "--executor", "serial", "--only", trial.trial_id, "--results", results)
    if answer(*arguments) != 0:
        raise Broken("the launch failed")
    row = kept.rows()[trial.trial_id]
    if not (row["notes"] or "").startswith("started again: checkpoint") or row["resumes"]:
        raise Broken(f"went on from a damaged checkpoint: {row['notes']}")
    return "refused"


# --- all -----------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[random.Random, Path], str]] = {
    "grids": grid,
    "stores": store,
    "checkpoints": checkpoint,
}


def try_one(kind: str, seed: object) -> str:
    """Make one input and see what becomes of it: `accepted` or `refused`.

    Raises:
        Broken: a rule does not hold.
    """
    with tempfile.TemporaryDirectory() as directory, working_in(directory):
        return KINDS[kind](random.Random(f"{kind} {seed}"), Path(directory).resolve())


@contextlib.contextmanager
def working_in(directory: str) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


def _hung(signum: int, frame: object) -> None:
    raise TimeoutError("hung")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", nargs="?", choices=list(KINDS))
    parser.add_argument("--inputs", type=int, default=2000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    signal.signal(signal.SIGALRM, _hung)
    broken = 0
    for kind in [arguments.kind] if arguments.kind else KINDS:
        found: Counter[str] = Counter()
        for number in range(arguments.inputs):
            signal.alarm(HANGS_AFTER_SECONDS)
            try:
                found[try_one(kind, f"{arguments.seed} {number}")] += 1
            except Broken as error:
                found["broken"] += 1
                print(f"BROKEN {kind} {number}: {error}", flush=True)
        signal.alarm(0)
        broken += found["broken"]
        print(f"{kind}: {arguments.inputs} inputs, {dict(found)}", flush=True)
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
