"""Inputs that coverage leads to: grid files, arithmetic, records and states of launches.

    python benchmarks/guided_fuzz.py [--seconds 120] [--seed 0] [grids | arithmetic | records | states]

libFuzzer, through atheris (`pip install atheris`; without it this says so and does nothing), keeps what
reaches new lines and changes it further, half of the time as nested values (`benchmarks/fuzz.py`), else
byte by byte. Whoever reads an input may refuse it by its own kind of error and by no other, and must take
back what it writes itself. While it does, an audit hook watches what the interpreter is asked for: nothing
is run, unpickled or connected to, and no file opened for writing. An input that breaks a rule is printed
and ends its kind; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
HANGS_AFTER_SECONDS = 60
MEMORY_MIB = 4096
MAX_BYTES = 20_000
"""Of an input: what comes of a large file is for `benchmarks/fuzz.py`."""
FORBIDDEN = ("os.", "shutil.", "subprocess.", "socket.", "pickle.", "marshal.", "ctypes.", "exec")
"""Beginnings of the names of audit events."""
HARMLESS = ("os.listdir", "os.scandir", "os.walk", "os.fwalk")
INSTRUMENTED = ["gridrun", "trainer", "yaml"]

Target = Callable[[bytes], str]
"""Reads an input: `accepted` or `refused`."""


class Watch:
    """What the interpreter was asked for since it was last looked at, and should not have been."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.on = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            name, mode, flags = arguments
            if any(letter in (mode or "") for letter in "wax+") or (flags or 0) & 0o3:
                self.seen.append(f"open {name!r} {mode}")
        elif event.startswith(FORBIDDEN) and event not in HARMLESS:
            self.seen.append(f"{event} {arguments!r:.200}")


def grids(work: Path) -> Target:
    """Read a grid file, and make its tables of an empty store in every form."""
    from gridrun.errors import GridError
    from gridrun.grid import load_grid
    from gridrun.store import Store
    from gridrun.tables.build import tables_of
    from gridrun.tables.csv import to_csv
    from gridrun.tables.latex import to_latex
    from gridrun.tables.render import to_json, to_markdown, to_text

    path, store = work / "fuzzed.yaml", Store(work / "results")

    def read(data: bytes) -> str:
        watch.on = False
        path.write_bytes(data)
        watch.on = True
        try:
            grid = load_grid(path)
        except GridError as error:
            if not error.problem:
                raise RuntimeError("refused without a word") from None
            return "refused"
        ids = [trial.trial_id for trial in grid.trials]
        assert ids == [trial.trial_id for trial in load_grid(path).trials], "two readings, two grids"
        tables = tables_of([grid], store)
        to_json(tables)
        for table in tables:
            for form in (to_markdown, to_text, to_csv, to_latex):
                form(table)
        return "accepted"

    return read


def arithmetic(work: Path) -> Target:
    """Evaluate an expression."""
    from gridrun.grid.derive import evaluate

    names = {"batch_size": 128, "lr": 0.1, "model.depth": 20}

    def read(data: bytes) -> str:
        try:
            value = evaluate(data.decode(errors="replace"), names)
        except ValueError:
            return "refused"
        assert isinstance(value, (int, float)), value
        assert abs(value) <= 1e300, value
        return "accepted"

    return read


def records(work: Path) -> Target:
    """Read a trial's record, as a launch does of what it finds under `ended/`."""
    from gridrun.store.records import Record

    return _parser(Record.from_json)


def states(work: Path) -> Target:
    """Read how far a launch is, as `gridrun status` does."""
    from gridrun.store.launches import LaunchState

    return _parser(LaunchState.from_json)


def _parser(parse: Callable[[str], Any]) -> Target:
    def read(data: bytes) -> str:
        try:
            made = parse(data.decode(errors="replace"))
        except ValueError:
            return "refused"
        assert parse(made.to_json()) == made, "does not take back what it writes"
        return "accepted"

    return read


KINDS: dict[str, Callable[[Path], Target]] = {
    "grids": grids,
    "arithmetic": arithmetic,
    "records": records,
    "states": states,
}
watch = Watch()


def examples(kind: str) -> list[bytes]:
    """Return what coverage starts from."""
    from benchmarks import fuzz
    from gridrun.grid import load_grid
    from gridrun.store.launches import EndedTrial, LaunchState, Running

    if kind == "grids":
        return [path.read_bytes() for path in sorted((ROOT / "grids").glob("*.yaml"))]
    if kind == "arithmetic":
        return [b"0.1 * batch_size / 128", b"max(1, round(lr ** -2)) // 3 % 7", b"sqrt(model.depth) + -1e3"]
    if kind == "records":
        trial = load_grid(ROOT / "grids/quickstart.yaml").trials[0]
        return [fuzz.record(trial, status).to_json().encode() for status in ("done", "failed")]
    running = Running(trial_id="0" * 16, about="lr=0.1", epochs=3, test_error=0.5)
    over = EndedTrial(trial_id="1" * 16, about="lr=0.2", outcome="failed", reason="a reason")
    state = LaunchState(
        started_at="2026-01-01T00:00:00+00:00", total=3, running=(running,), last=(over,), failures=(over,)
    )
    return [state.to_json().encode()]


def words(kind: str) -> list[str]:
    """Return the names that a reader may compare with, for libFuzzer's dictionary."""
    import yaml

    found: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                found.add(str(key))
                collect(inner)
        elif isinstance(value, list):
            for inner in value:
                collect(inner)
        elif isinstance(value, str) and len(value) < 30:
            found.add(value)

    if kind != "arithmetic":
        for text in examples(kind):
            collect(yaml.safe_load(text))
    found |= {
        "*",
        "**",
        "//",
        "1e308",
        "nan",
        "inf",
        "&a ",
        "*a",
        "<<: ",
        "!!python/object:",
        "min(",
        "floor(",
    }
    return sorted(found - {""})


def mutator(kind: str, mutate: Callable[[bytes, int], bytes]) -> Callable[[bytes, int, int], bytes]:
    """Return what changes an input: half of the time as the nested values that it holds."""
    import yaml

    from benchmarks import fuzz

    def read(data: bytes) -> Any:
        return yaml.safe_load(data) if kind == "grids" else json.loads(data)

    def write(value: Any) -> bytes:
        text = yaml.safe_dump(value, allow_unicode=True) if kind == "grids" else json.dumps(value)
        return text.encode()

    def change(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if kind != "arithmetic" and rng.random() < 0.5:
            try:
                made = write(fuzz.changed(read(data), rng))
            except (ValueError, yaml.YAMLError, RecursionError, TypeError, OverflowError):
                pass
            else:
                if len(made) <= max_size:
                    return made
        return mutate(data, max_size)

    return change


def fuzz_one(kind: str, seconds: int, seed: int, work: Path) -> None:
    """Fuzz one kind in this process, which libFuzzer ends."""
    import atheris

    sys.path.insert(0, str(ROOT))
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = KINDS[kind](work)
        corpus = work / "corpus"
        corpus.mkdir()
        for number, example in enumerate(examples(kind)):
            (corpus / str(number)).write_bytes(example)
            target(example)  # what is imported on first use is imported now
    dictionary = work / "words"
    dictionary.write_text("".join(f'"{_quoted(word)}"\n' for word in words(kind)))
    found: Counter[str] = Counter()

    def test_one(data: bytes) -> None:
        watch.seen.clear()
        watch.on = True
        try:
            found[target(data)] += 1
        finally:
            watch.on = False
            if found.total() % 100 == 0:  # libFuzzer ends the process
                (work / "found.json").write_text(json.dumps(found))
        if watch.seen:
            raise PermissionError(f"asked for: {watch.seen}")

    sys.addaudithook(watch)
    arguments = [
        *(f"-max_total_time={seconds}", f"-seed={seed}", f"-timeout={HANGS_AFTER_SECONDS}"),
        *(f"-rss_limit_mb={MEMORY_MIB}", f"-max_len={MAX_BYTES}", f"-dict={dictionary}"),
        *(f"-artifact_prefix={work}/broken-", "-print_final_stats=1", str(corpus)),
    ]
    # `Fuzz` puts another `Mutate` in place, which is looked up when it is needed.
    change = mutator(kind, lambda data, max_size: bytes(atheris.Mutate(data, max_size)))
    atheris.Setup([sys.argv[0], *arguments], test_one, custom_mutator=change)
    atheris.Fuzz()


def _quoted(word: str) -> str:
    return "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in word.encode())


def run(kind: str, seconds: int, seed: int) -> bool:
    """Fuzz one kind in a process of its own, print what came of it, and return whether all rules held."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__, kind, "--seconds", str(seconds), "--seed", str(seed)]
        done = subprocess.run(
            [*command, "--in", directory], capture_output=True, text=True, errors="replace", cwd=ROOT
        )
        said = done.stderr.splitlines()
        stats = dict(line[6:].split(":") for line in said if line.startswith("stat::"))
        covered = next((line.split("cov:")[1].split()[0] for line in reversed(said) if " cov: " in line), "?")
        counted = Path(directory, "found.json")
        found = json.loads(counted.read_text()) if counted.exists() else {}
        inputs = int(stats.get("number_of_executed_units", 0))
        print(f"{kind}: {inputs} inputs in {seconds} s, {covered} edges covered, {found}", flush=True)
        broken = sorted(Path(directory).glob("broken-*"))
        for path in broken:
            print(f"BROKEN {kind}: {path.read_bytes()!r}")
        if done.returncode:
            print("\n".join([*done.stdout.splitlines()[-30:], *said[-10:]]), flush=True)
    return not done.returncode and not broken and inputs > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", nargs="?", choices=list(KINDS))
    parser.add_argument("--seconds", type=int, default=120, help="for each kind")
    parser.add_argument("--seed", type=int, default=1, help="of libFuzzer; 0 is a random one")
    parser.add_argument("--in", dest="work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("nothing done: atheris is not installed (pip install atheris)")
        return
    if arguments.work:
        fuzz_one(arguments.kind, arguments.seconds, arguments.seed, arguments.work)
    kinds = [arguments.kind] if arguments.kind else list(KINDS)
    held = [run(kind, arguments.seconds, arguments.seed) for kind in kinds]
    sys.exit(not all(held))


if __name__ == "__main__":
    main()
