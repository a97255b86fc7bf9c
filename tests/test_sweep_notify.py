"""`--notify`: which messages a command gets, and that it cannot harm a sweep."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import main
from gridrun.commands._sweep_options import SweepOptions
from gridrun.errors import LaunchError
from gridrun.store import Store
from gridrun.store.launches import LaunchState
from gridrun.sweep import notify
from gridrun.sweep.events import Ended, Progress, Started, Waiting
from gridrun.sweep.notify import Notifier, read_command
from gridrun.sweep.retries import Failed
from gridrun.trial import Trial
from tests.tiny import config
from trainer.metrics import Epoch

TRIAL = Trial(config(), seed=7)
EPOCH = Epoch(
    epoch=1, lr=0.1, train_loss=1.0, train_error=0.5, test_loss=1.0, test_error=0.5, train_seconds=200.0
)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def writer(tmp_path: Path) -> list[str]:
    """Return a command that appends what it gets to `said`, and its arguments to `arguments`."""
    script = tmp_path / "write.py"
    script.write_text(
        "import sys\n"
        f"open({str(tmp_path / 'said')!r}, 'a').write(sys.stdin.read())\n"
        f"open({str(tmp_path / 'arguments')!r}, 'a').write(repr(sys.argv[1:]))\n"
    )
    return [sys.executable, "-S", str(script)]


def said(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "said").read_text().splitlines()]


def test_the_first_failure_and_the_end_are_told(tmp_path: Path, writer: list[str]) -> None:
    with Notifier([*writer, "$(touch no) `x`"], {"results": "r"}, pytest.fail) as notifier:
        notifier.show(Started(TRIAL))
        notifier.show(Failed(TRIAL, "error", "will go on", will_retry=True))
        notifier.update(LaunchState(started_at="then", total=3, ended=1))
        notifier.show(Failed(TRIAL, "error", "'; rm -rf / #", will_retry=False))
        notifier.show(Ended(TRIAL, "diverged"))
        notifier.end("failed", None)
    first, last = said(tmp_path)
    assert (first["event"], first["outcome"], first["trial_id"]) == ("failed", "failed", TRIAL.trial_id)
    assert (first["reason"], first["results"]) == ("'; rm -rf / #", "r")
    assert (first["total"], first["ended"]) == (3, 1)
    assert (last["event"], last["outcome"]) == ("ended", "failed")
    assert (tmp_path / "arguments").read_text() == repr(["$(touch no) `x`"]) * 2, "no shell reads it"


@pytest.mark.parametrize(
    ("error", "outcome"), [(KeyboardInterrupt(), "interrupted"), (LaunchError("no GPU"), "error")]
)
def test_an_end_by_an_error_is_told(
    tmp_path: Path, writer: list[str], error: BaseException, outcome: str
) -> None:
    with pytest.raises(type(error)), Notifier(writer, {}, pytest.fail):
        raise error
    (last,) = said(tmp_path)
    assert (last["event"], last["outcome"], last["reason"]) == ("ended", outcome, str(error))


def test_a_standstill_is_told_once_until_something_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(notify, "_run", lambda command, text: told.append(json.loads(text)))
    clock = Clock()
    notifier = Notifier(["true"], {}, pytest.fail, clock)

    def stalls(seconds: float) -> bool:
        clock.now += seconds
        before = notifier._messages.qsize()
        notifier.check()
        return notifier._messages.qsize() > before

    assert not stalls(10_000), "nothing has begun"
    notifier.show(Started(TRIAL))
    notifier.update(LaunchState(started_at="then", total=2))
    assert not stalls(599)
    assert stalls(1)
    assert not stalls(5000), "told already"
    notifier.show(Progress(TRIAL, EPOCH))
    assert not stalls(999), "five of its epochs take longer than ten minutes"
    assert stalls(1)
    notifier.show(Waiting((TRIAL,)))
    assert not stalls(10_000), "others train what is left"
    notifier.show(Ended(TRIAL, "done"))
    notifier.update(LaunchState(started_at="then", total=2, ended=2))
    assert not stalls(10_000), "all have ended"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import sys; sys.exit('no such address')", "ended with 1: no such address"),
        ("import time; time.sleep(60)", "took more than 1 s and was killed"),
    ],
)
def test_a_command_that_fails_is_one_warning(
    monkeypatch: pytest.MonkeyPatch, code: str, problem: str
) -> None:
    monkeypatch.setattr(notify, "COMMAND_SECONDS", 1.0)
    warnings: list[str] = []
    with Notifier([sys.executable, "-S", "-c", code], {}, warnings.append) as notifier:
        notifier.show(Failed(TRIAL, "error", "broken", will_retry=False))
        notifier.end("done", None)
    (warning,) = warnings
    assert warning.endswith(f"{problem}; the sweep goes on")
    assert threading.active_count() < 20


def test_a_program_that_is_not_there_is_refused_before_anything_starts(tmp_path: Path) -> None:
    assert read_command("sh -c 'cat > \"a b\"'") == ["sh", "-c", 'cat > "a b"']
    for wrong, message in (
        ("no_such_program -x", "no program .no_such_program"),
        ("'a", "quotation"),
    ):
        with pytest.raises(LaunchError, match=message):
            read_command(wrong)


def test_a_launch_tells_its_end(tmp_path: Path, writer: list[str]) -> None:
    grid = tmp_path / "g.yaml"
    grid.write_text(
        "base: {model: {name: resnet_preact, depth: 8, initial_channels: 1}, dataset: digits, epochs: 1, "
        "train_size: 64, batch_size: 32}\n"
    )
    words = ["launch", grid, "--results", tmp_path / "results", "--data", tmp_path, "--executor", "serial"]
    result = CliRunner().invoke(main, [*map(str, words), "--notify", " ".join(writer)])
    assert result.exit_code == 0, result.output
    (last,) = said(tmp_path)
    assert (last["event"], last["outcome"], last["counts"]["done"]) == ("ended", "done", 1)
    assert last["grids"] == [str(grid)]


def test_what_a_command_says_steers_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "fail.sh"
    script.write_text("printf 'a\\033[31mb\\n' >&2; exit 3\n")
    (notifier,) = SweepOptions(notify=f"sh {script}").listeners([], Store(tmp_path))
    with notifier:
        notifier.show(Failed(TRIAL, "exception", "a reason", will_retry=False))
    assert capsys.readouterr().err == f"--notify sh {script}: ended with 3: a[31mb; the sweep goes on\n"
