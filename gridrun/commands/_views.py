"""What a launch shows while it runs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from gridrun.describe import describe

if TYPE_CHECKING:
    from gridrun.launch import LaunchEvent


class LogView:
    """One line an event, for logs and pipes."""

    def __enter__(self) -> LogView:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: LaunchEvent) -> None:
        """Print an event."""
        if text := worded(event):
            click.echo(text, err=True)


def worded(event: LaunchEvent) -> str | None:
    """Return an event worth a line in a log."""
    from gridrun.executors.base import Ended, Lost, Started
    from gridrun.launch import Preparing, Waiting

    match event:
        case Preparing(dataset):
            return f"preparing data set {dataset}"
        case Started(trial):
            return f"started {trial.trial_id}  {describe(trial)}"
        case Ended(trial, outcome):
            return f"{outcome} {trial.trial_id}"
        case Lost(trial, reason):
            return f"failed {trial.trial_id}: {reason}"
        case Waiting(trials):
            return f"waiting for {len(trials)} trials that other launches are training"
        case _:
            return None


class EpochView(LogView):
    """One line an epoch too."""

    def show(self, event: LaunchEvent) -> None:
        """Print an event."""
        from gridrun.executors.base import Progress

        match event:
            case Progress(trial, epoch, test_error):
                figure = "none" if test_error is None else f"{100 * test_error:.2f} %"
                click.echo(f"epoch {epoch} of {trial.config.epochs}: test error {figure}", err=True)
            case _:
                super().show(event)


class LiveView:
    """A progress bar with the running trials below it, for a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[str, Any] = {}
        self._all: Any = None

    def __enter__(self) -> LiveView:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, event: LaunchEvent) -> None:
        """Update the screen."""
        from gridrun.executors.base import Ended, Lost, Progress, Started
        from gridrun.launch import Planned

        match event:
            case Planned(total):
                self._all = self._progress.add_task("trials", total=total)
            case Started(trial):
                self._tasks[trial.trial_id] = self._progress.add_task(
                    describe(trial), total=trial.config.epochs
                )
            case Progress(trial, epoch, test_error) if trial.trial_id in self._tasks:
                figure = "" if test_error is None else f", {100 * test_error:.2f} % error"
                self._progress.update(
                    self._tasks[trial.trial_id], completed=epoch, description=describe(trial) + figure
                )
            case Ended(trial, "busy"):
                self._remove(trial.trial_id)
            case Ended(trial, outcome):
                self._end(trial.trial_id)
                if outcome in ("failed", "diverged"):
                    self._progress.console.print(
                        f"{outcome} {trial.trial_id}  {describe(trial)}", markup=False
                    )
            case Lost(trial, reason):
                self._end(trial.trial_id)
                self._progress.console.print(f"failed {trial.trial_id}: {reason}", markup=False)
            case _:
                if text := worded(event):
                    self._progress.console.print(text, markup=False)

    def _end(self, trial_id: str) -> None:
        self._remove(trial_id)
        self._progress.advance(self._all)

    def _remove(self, trial_id: str) -> None:
        if (task := self._tasks.pop(trial_id, None)) is not None:
            self._progress.remove_task(task)


def make_view() -> LogView | LiveView:
    """Return the view that suits stderr."""
    return LiveView() if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else LogView()
