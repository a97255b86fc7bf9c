"""What a launch shows while it runs."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import click

from gridrun.commands._plans import estimated
from gridrun.commands._show import printable
from gridrun.text import format_percent, number_of

if TYPE_CHECKING:
    from gridrun.store.launch_state import LaunchState
    from gridrun.sweep import LaunchEvent


from collections.abc import Sequence
from datetime import datetime, timezone

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gridrun.store.launch_state import EndedTrial, LaunchState, Running
from gridrun.text import format_count, format_time


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
    from gridrun.grid.describe import describe
    from gridrun.sweep import Planned, Preparing, Waiting
    from gridrun.sweep.events import Ended, PackingChosen, Started, Warned
    from gridrun.sweep.retries import Failed

    match event:
        case Planned(trials, forecast) if forecast and len(trials) > 1:
            return f"{len(trials)} trials to run: {estimated(forecast)}"
        case Warned(text):
            return text
        case PackingChosen(config, number):
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
        from gridrun.sweep.events import Progress

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
        from gridrun.grid.describe import describe
        from gridrun.sweep.events import Ended, Started

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


MAX_RUNNING = 16
"""Trials shown, so that the screen does not scroll."""


def screen(states: Sequence[LaunchState]) -> RenderableType:
    """Return what a terminal shows of some launches."""
    running = [run for state in states for run in state.running]
    parts: list[RenderableType] = [_bar(state) for state in states]
    if running:
        parts += [Text(), _running(running[:MAX_RUNNING])]
    if len(running) > MAX_RUNNING:
        parts.append(Text(f"... and {len(running) - MAX_RUNNING} more", style="dim"))
    last = [over for state in states for over in state.last if over.outcome == "done"]
    parts += _over("last done", last[:3], "green")
    parts += _over("failed or diverged", [over for state in states for over in state.failures], "red")
    return Group(*parts)


def _bar(state: LaunchState) -> Table:
    started = datetime.fromisoformat(state.started_at)
    elapsed = max((datetime.now(timezone.utc) - started).total_seconds(), 0.0)
    left = "" if state.seconds_left is None else f", about {format_time(state.seconds_left)} left"
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True)
    row.add_row(
        Text(f"{state.ended} of {number_of(state.total, 'trial')}"),
        ProgressBar(total=1.0, completed=state.share),
        Text(f"{100 * state.share:.0f} %, {format_time(elapsed)}{left}"),
    )
    return row


def _running(running: Sequence[Running]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim", expand=True)
    table.add_column("running", no_wrap=True)
    table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
    for header in ("epoch", "error", "images/s"):
        table.add_column(header, justify="right", no_wrap=True)
    placed = any(run.place for run in running)
    if placed:
        table.add_column("on", no_wrap=True)
    for run in running:
        cells = [
            run.trial_id[:8],
            run.about,
            f"{run.epoch}/{run.epochs}",
            _percent(run.test_error),
            "" if run.images_per_second is None else format_count(run.images_per_second),
        ]
        table.add_row(*(Text(printable(cell)) for cell in (*cells, *([run.place] if placed else []))))
    return table


def _over(title: str, ended: Sequence[EndedTrial], style: str) -> list[RenderableType]:
    if not ended:
        return []
    table = Table(box=None, padding=(0, 1), header_style="dim", expand=True)
    table.add_column(title, no_wrap=True)
    table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("", justify="right", no_wrap=True)
    for over in ended:
        how = _percent(over.test_error) if over.outcome == "done" else over.reason or over.outcome
        table.add_row(Text(over.trial_id[:8], style), Text(printable(over.about)), Text(printable(how)))
    return [Text(), table]


def _percent(error: float | None) -> str:
    return "" if error is None else f"{format_percent(error)} %"
