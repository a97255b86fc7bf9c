"""What a launch shows while it runs."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import click

from gridrun.columns import format_percent, number_of
from gridrun.commands._plans import estimated
from gridrun.commands._show import printable

if TYPE_CHECKING:
    from gridrun.launch import LaunchEvent
    from gridrun.launch_state import LaunchState


class LogView:
    """One line an event, for logs and pipes."""

    def __enter__(self) -> LogView:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: LaunchEvent) -> None:
        """Print an event."""
        if text := worded(event):
            _log(text)

    def update(self, state: LaunchState) -> None:
        """Show nothing: every event has had its line."""


def worded(event: LaunchEvent) -> str | None:
    """Return an event worth a line in a log."""
    from gridrun.describe import describe
    from gridrun.executors.base import Ended, Fitted, Started, Warned
    from gridrun.launch import Planned, Preparing, Waiting
    from gridrun.tries import Failed

    match event:
        case Planned(trials, forecast) if forecast and len(trials) > 1:
            return f"{len(trials)} trials to run: {estimated(forecast)}"
        case Warned(text):
            return text
        case Fitted(config, number):
            return f"{number} to a GPU: {config.model.label}, batch size {config.batch_size}"
        case Preparing(dataset):
            return f"preparing data set {dataset}"
        case Started(trial):
            return f"started {trial.trial_id}  {describe(trial)}"
        case Ended(trial, "done", epoch) if epoch and epoch.test_error is not None:
            return f"done {trial.trial_id}  test error {format_percent(epoch.test_error)} %"
        case Ended(trial, outcome):
            return f"{outcome} {trial.trial_id}"
        case Failed(trial, failure, reason, again):
            kind = f" ({failure})" if failure else ""
            what_next = "; will be tried again" if again else ""
            return f"failed {trial.trial_id}{kind}: {printable(reason)}{what_next}"
        case Waiting(trials):
            return f"waiting for {number_of(len(trials), 'trial')} held by other processes"
        case _:
            return None


class EpochView(LogView):
    """One line an epoch too."""

    def show(self, event: LaunchEvent) -> None:
        """Print an event."""
        from gridrun.executors.base import Progress

        match event:
            case Progress(trial, epoch):
                error = epoch.test_error
                figure = "none" if error is None else f"{format_percent(error)} %"
                _log(f"epoch {epoch.epoch} of {trial.config.epochs}: test error {figure}")
            case _:
                super().show(event)


def _log(text: str) -> None:
    with contextlib.suppress(OSError):  # a log that takes no more ends no sweep
        click.echo(text, err=True)


class LiveView:
    """One screen that is drawn anew, with lines worth keeping above it: for a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(stderr=True), transient=True, refresh_per_second=4)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._live.stop()

    def show(self, event: LaunchEvent) -> None:
        """Print an event that the screen does not show for ever."""
        from gridrun.describe import describe
        from gridrun.executors.base import Ended, Started

        match event:
            case Started() | Ended(outcome="done" | "busy" | "interrupted"):
                pass
            case Ended(trial, outcome):
                self._print(f"{outcome} {trial.trial_id}  {describe(trial)}")
            case _:
                if text := worded(event):
                    self._print(text)

    def update(self, state: LaunchState) -> None:
        """Show how far the launch is."""
        from gridrun.commands._screen import screen

        with contextlib.suppress(OSError):  # the terminal is gone
            self._live.update(screen([state]))

    def _print(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._live.console.print(printable(text), markup=False, highlight=False)


def make_view() -> LogView | LiveView:
    """Return the view that suits stderr."""
    return (
        LiveView() if sys.stderr and sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else LogView()
    )
