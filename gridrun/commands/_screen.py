"""Launches on one screen of a terminal: how far, what runs, what ended, what failed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gridrun.columns import format_count, format_percent, format_time, number_of
from gridrun.commands._show import printable
from gridrun.launch_state import LaunchState, Over, Running

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


def _over(title: str, ended: Sequence[Over], style: str) -> list[RenderableType]:
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
