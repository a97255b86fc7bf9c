"""What a launch shows while it runs: a log, or a live screen on a terminal. Imports rich."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gridrun.commands._process import ended_by_signals
from gridrun.commands._search import describe_exploits, describe_round
from gridrun.commands._show import format_estimate, format_position
from gridrun.grid import Grid
from gridrun.grid.describe import describe
from gridrun.search import Progress as SearchProgress
from gridrun.search.run import RoundEnded, SearchEvent, search
from gridrun.store import Store
from gridrun.store.launches import EndedTrial, LaunchState, Running
from gridrun.sweep import Summary, launch
from gridrun.sweep.bookkeeper import Planned, Preparing
from gridrun.sweep.events import (
    Ended,
    PackingChosen,
    Progress,
    Started,
    Stepped,
    ThreadsChosen,
    Waiting,
    Warned,
)
from gridrun.sweep.executor import Executor
from gridrun.sweep.listener import Listener
from gridrun.sweep.options import LaunchOptions
from gridrun.sweep.retries import Failed
from gridrun.text import format_count, format_percent, format_time, number_of, printable
from gridrun.trial import Trial

MAX_RUNNING = 16  # running trials shown, so that the screen does not scroll
WIDE = 100  # columns from which there is room for the speed


def run_sweep(
    grids: Sequence[Grid],
    store: Store,
    options: LaunchOptions,
    executor: Executor,
    view: Log | LiveScreen | None = None,
    listeners: Sequence[Listener] = (),
) -> Summary:
    """Launch grids and show on stderr what happens; by default, in the view that suits stderr."""
    views = [view or _default_view(), *listeners]
    with ended_by_signals(), contextlib.ExitStack() as stack:
        for each in (*views[1:], executor, views[0]):
            stack.enter_context(each)
        summary = launch(grids, store, executor, options, _show_in(views), _update_in(views))
        for listener in listeners:
            listener.end(_outcome(summary), summary.plan)
        return summary


def run_search(
    progress: SearchProgress,
    store: Store,
    options: LaunchOptions,
    executor: Executor,
    listeners: Sequence[Listener] = (),
) -> Summary | None:
    """Run a search to its end and show on stderr what happens; see `gridrun.search.run.search`."""
    views = [_default_view(), *listeners]
    with ended_by_signals(), contextlib.ExitStack() as stack:
        for each in (*views[1:], executor, views[0]):
            stack.enter_context(each)
        summary = search(progress, store, executor, options, _show_in(views), _update_in(views))
        outcome = "done" if progress.is_over or not summary else _outcome(summary)
        for listener in listeners:
            listener.end(outcome, summary.plan if summary else None)
        return summary


def _show_in(views: Sequence[Log | LiveScreen | Listener]) -> Callable[[SearchEvent], None]:
    warnings = set[str]()

    def show(event: SearchEvent) -> None:
        if isinstance(event, Warned):
            if event.text in warnings:
                return  # each round of a search is a launch, and finds the same
            warnings.add(event.text)
        for view in views:
            view.show(event)

    return show


def _update_in(views: Sequence[Log | LiveScreen | Listener]) -> Callable[[LaunchState], None]:
    def update(state: LaunchState) -> None:
        for view in views:
            view.update(state)

    return update


def _outcome(summary: Summary) -> str:
    if summary.interrupted:
        return "interrupted"
    return "failed" if summary.failed else "done"


def _default_view() -> Log | LiveScreen:
    is_terminal = sys.stderr and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return LiveScreen() if is_terminal else Log()


class Log(contextlib.AbstractContextManager["Log"]):
    """One line for each event, for logs and pipes; by default epochs get none."""

    def __init__(self, epochs: bool = False) -> None:
        self._epochs = epochs

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: SearchEvent) -> None:
        """Print an event."""
        if (self._epochs or not isinstance(event, Progress)) and (text := format_event(event)):
            with contextlib.suppress(OSError):  # a closed pipe or a full disk must not end the launch
                click.echo(text, err=True)

    def update(self, state: LaunchState) -> None:
        """Print nothing: every event already has its line."""


class LiveScreen:
    """A screen that is redrawn, with important events above it, for a terminal."""

    def __init__(self) -> None:
        self._live = Live(console=Console(stderr=True), transient=True, refresh_per_second=4)

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._live.stop()

    def show(self, event: SearchEvent) -> None:
        """Print an event that would otherwise leave the screen unseen."""
        match event:
            case Started() | Progress() | Stepped() | Ended(outcome="done" | "busy" | "interrupted"):
                text = None
            case Ended(trial, outcome):
                text = f"{outcome} {trial.trial_id}  {describe(trial)}"
            case _:
                text = format_event(event)
        if text:
            with contextlib.suppress(OSError):
                self._live.console.print(printable(text), markup=False, highlight=False)

    def update(self, state: LaunchState) -> None:
        """Redraw the screen."""
        with contextlib.suppress(OSError):  # the terminal is gone
            self._live.update(screen([state], self._live.console.width))


def format_event(event: SearchEvent) -> str | None:
    """Return the line of a log for an event; None if it gets none."""
    match event:
        case RoundEnded(progress):
            text = f"{describe_round(progress)}; {describe_exploits(progress)}"
            return text.removesuffix("; ")
        case Planned(trials, forecast) if forecast and len(trials) > 1:
            return f"{len(trials)} trials to run: {format_estimate(forecast)}"
        case Warned(text):
            return text
        case PackingChosen(config, number):
            return f"{number} to a GPU: {config.model.label}, batch size {config.batch_size}"
        case ThreadsChosen(config, number):
            return (
                f"{number_of(number, 'thread')} a trial: {config.model.label}, batch size {config.batch_size}"
            )
        case Preparing(dataset):
            return f"preparing data set {dataset}"
        case Started(trial):
            return f"started {trial.trial_id}  {describe(trial)}"
        case Progress(trial, epoch):
            error = _percent(epoch.test_error) or "none"
            return f"epoch {epoch.epoch} of {trial.config.last_epoch}: {_measured(trial)} {error}"
        case Ended(trial, "done", epoch) if epoch and epoch.test_error is not None:
            return f"done {trial.trial_id}  {_measured(trial)} {_percent(epoch.test_error)}"
        case Ended(trial, "busy"):
            return f"busy {trial.trial_id}: another process trains it, or this machine lacks its data"
        case Ended(trial, outcome):
            return f"{outcome} {trial.trial_id}"
        case Failed(trial, failure, reason, will_retry):
            kind = f" ({failure})" if failure else ""
            return f"failed {trial.trial_id}{kind}: {printable(reason)}{'; will retry' if will_retry else ''}"
        case Waiting(trials):
            return f"waiting for {number_of(len(trials), 'trial')} that other processes are training"
        case _:
            return None


def screen(states: Sequence[LaunchState], width: int = 80) -> RenderableType:
    """Return what a terminal of so many columns shows of some launches."""
    running = [run for state in states for run in state.running]
    parts: list[RenderableType] = []
    for state in states:
        parts.append(_progress_bar(state))
        if state.alike:
            parts.append(Text(f"all: {printable(state.alike)}", style="dim"))
    if running:
        parts += [Text(), _running_table(running[:MAX_RUNNING], with_speed=width >= WIDE)]
    if len(running) > MAX_RUNNING:
        parts.append(Text(f"... and {len(running) - MAX_RUNNING} more", style="dim"))
    done = [ended for state in states for ended in state.last if ended.outcome == "done"]
    failures = [ended for state in states for ended in state.failures]
    for title, trials, style in (("last done", done[:3], "green"), ("failed or diverged", failures, "red")):
        if trials:
            parts += [Text(), _ended_table(title, trials, style)]
    return Group(*parts)


def _progress_bar(state: LaunchState) -> Table:
    started = datetime.fromisoformat(state.started_at)
    elapsed = max((datetime.now(timezone.utc) - started).total_seconds(), 0.0)
    left = "" if state.seconds_left is None else f", about {format_time(state.seconds_left)} left"
    row = Table.grid(padding=(0, 1), expand=True)
    for ratio in (None, 1, None):  # the bar takes what the texts leave
        row.add_column(ratio=ratio, no_wrap=True)
    row.add_row(
        Text(f"{state.ended} of {number_of(state.total, 'trial')}"),
        ProgressBar(total=1.0, completed=state.share),
        Text(f"{100 * state.share:.0f} %, {format_time(elapsed)}{left}"),
    )
    return row


def _table(title: str) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim", expand=True)
    table.add_column(title, no_wrap=True)
    table.add_column("", ratio=1)  # wraps, as its end may be what tells a trial from the next
    return table


def _running_table(running: Sequence[Running], with_speed: bool) -> Table:
    table = _table("running")
    for header in ("epoch", "error", *(["images/s"] if with_speed else [])):
        table.add_column(header, justify="right", no_wrap=True)
    has_places = any(run.place for run in running)
    if has_places:
        table.add_column("on", no_wrap=True)
    for run in running:
        cells = [
            run.trial_id[:8],
            run.about,
            f"{format_position(run)}/{run.epochs}",
            _percent(run.test_error),
            *([_count(run.images_per_second)] if with_speed else []),
            *([run.place] if has_places else []),
        ]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _ended_table(title: str, trials: Sequence[EndedTrial], style: str) -> Table:
    table = _table(title)
    table.add_column("", justify="right", no_wrap=True)
    for trial in trials:
        end = _percent(trial.test_error) if trial.outcome == "done" else trial.reason or trial.outcome
        table.add_row(Text(trial.trial_id[:8], style), Text(printable(trial.about)), Text(printable(end)))
    return table


def _count(number: float | None) -> str:
    return "" if number is None else format_count(number)


def _measured(trial: Trial) -> str:
    """Return what the error of a trial is: none of the test set, if it holds training images out for that."""
    return "validation error" if trial.config.num_held_out else "test error"


def _percent(error: float | None) -> str:
    return "" if error is None else f"{format_percent(error)} %"
