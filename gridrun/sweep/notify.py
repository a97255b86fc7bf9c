"""Tell a command of the user's what a sweep is up to: its first failure, a standstill, its end.

The command gets one JSON object on its standard input. Nothing that a grid or a trial says becomes part of
the command line, and no shell reads it. Whatever the command does, the sweep goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gridrun.errors import LaunchError
from gridrun.grid.describe import describe
from gridrun.store.launches import LaunchState
from gridrun.sweep.events import Ended, Progress, Waiting, Warned
from gridrun.sweep.retries import Failed
from gridrun.text import utc_now

if TYPE_CHECKING:
    from gridrun.plan import Plan
    from gridrun.trial import Trial

STALLED_SECONDS = 600.0
"""A sweep stands still if none of its trials says anything for so long, or for `STALLED_EPOCHS`."""
STALLED_EPOCHS = 5
"""Times the longest epoch so far, for trials with long epochs."""
COMMAND_SECONDS = 60.0
"""A command that takes longer is killed."""


def read_command(text: str) -> list[str]:
    """Split a command line into words, as a shell would. Raises LaunchError: there is no such program."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise LaunchError(f"--notify {text}: {error}") from None
    if not words or shutil.which(words[0]) is None:
        raise LaunchError(f"--notify {text}: there is no program {words[0] if words else text!r}")
    return words


class Notifier(contextlib.AbstractContextManager["Notifier"]):
    """Runs a command at the first failure, at each standstill and at the end of a sweep.

    Args:
        command: program and arguments.
        about: said in every message, such as the grids and the results directory.
        warn: gets a line the first time that the command fails.
        clock: seconds.
    """

    def __init__(
        self,
        command: Sequence[str],
        about: Mapping[str, Any],
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command, self._about, self._warn, self._clock = list(command), dict(about), warn, clock
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._state: LaunchState | None = None
        self._last = clock()
        self._longest_epoch = 0.0
        self._is_stalled = self._is_waiting = self._has_failure = self._has_warned = False
        self._end: dict[str, Any] = {}

    def __enter__(self) -> Notifier:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell of the end, and wait for the command."""
        if error is not None:
            stopped = isinstance(error, KeyboardInterrupt)
            self._end = {"outcome": "interrupted" if stopped else "error", "reason": str(error)}
        self._tell("ended", **self._end)
        self._messages.put(None)
        self._thread.join(2 * COMMAND_SECONDS)

    def show(self, event: object) -> None:
        """Note that something has happened, and tell of the first trial that failed or diverged for good."""
        self._is_waiting = isinstance(event, Waiting)
        match event:
            case Progress(_, epoch):
                self._longest_epoch = max(self._longest_epoch, epoch.train_seconds)
            case Failed(trial, _, reason, will_retry=False):
                self._fail(trial, "failed", reason)
            case Ended(trial, "diverged"):
                self._fail(trial, "diverged", "non-finite loss")
        if not isinstance(event, Warned):
            self._last, self._is_stalled = self._clock(), False

    def update(self, state: LaunchState) -> None:
        """Note the state of the launch."""
        self._state = state

    def end(self, outcome: str, plan: Plan | None) -> None:
        """Note how the sweep has ended. Leaving the context tells it."""
        counts = {name.replace(" ", "_"): count for name, count in plan.counts.items()} if plan else {}
        self._end = {"outcome": outcome, "counts": counts}

    def check(self) -> None:
        """Tell of a standstill, once until something happens again.

        A sweep whose last trials are trained by other launches only waits.
        """
        state, silent = self._state, self._clock() - self._last
        limit = max(STALLED_SECONDS, STALLED_EPOCHS * self._longest_epoch)
        is_on = state is not None and state.ended < state.total and not self._is_waiting
        if silent >= limit and is_on and not self._is_stalled:
            self._is_stalled = True
            self._tell("stalled", silent_seconds=round(silent))

    def _fail(self, trial: Trial, outcome: str, reason: str) -> None:
        if not self._has_failure:
            self._has_failure = True
            self._tell(
                "failed", trial_id=trial.trial_id, about=describe(trial), outcome=outcome, reason=reason
            )

    def _tell(self, what: str, **facts: Any) -> None:
        message: dict[str, Any] = {"event": what, "at": utc_now(), **self._about, **facts}
        if state := self._state:
            message |= {
                "started_at": state.started_at,
                "total": state.total,
                "ended": state.ended,
                "running": list(map(dataclasses.asdict, state.running)),
                "failures": list(map(dataclasses.asdict, state.failures)),
                "seconds_left": state.seconds_left,
            }
        self._messages.put(message)

    def _work(self) -> None:
        """Run the command for each message, in a thread of its own, so that the sweep never waits for it."""
        while True:
            try:
                message = self._messages.get(timeout=1.0)
            except queue.Empty:
                self.check()
                continue
            if message is None:
                return
            problem = _run(self._command, json.dumps(message))
            if problem and not self._has_warned:
                self._has_warned = True
                with contextlib.suppress(OSError):
                    self._warn(f"--notify {shlex.join(self._command)}: {problem}; the sweep goes on")


def _run(command: Sequence[str], text: str) -> str | None:
    """Run a command with a text on its standard input, and return what went wrong, if anything."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(text.encode() + b"\n")
        given.seek(0)
        try:
            # A session of its own, so that Ctrl-C at the terminal does not reach it, and to end all of it.
            process = subprocess.Popen(
                command, stdin=given, stdout=subprocess.DEVNULL, stderr=said, env=own, start_new_session=True
            )
        except OSError as error:
            return f"cannot be started: {error.strerror}"
        try:
            code = process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"took more than {COMMAND_SECONDS:.0f} s and was killed"
        if code == 0:
            return None
        said.seek(max(said.seek(0, os.SEEK_END) - 2000, 0))
        lines = said.read().decode(errors="replace").strip().splitlines()
        return f"ended with {code}{f': {lines[-1]}' if lines else ''}"
