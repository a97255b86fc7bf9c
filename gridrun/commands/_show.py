"""What several commands print, and how."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridrun.text import number_of

if TYPE_CHECKING:
    from gridrun.plan import Plan
    from gridrun.store import Store
    from gridrun.sweep import Summary
    from gridrun.tables.model import Table


def echo_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def printable(text: str | None) -> str:
    """Return a stored text without what would steer a terminal."""
    return "".join(c for c in text or "" if c.isprintable())


def ending(row: Mapping[str, Any]) -> str:
    """Return in one line how a trial ended that is not done."""
    kind = row.get("failure")
    tries = row.get("attempts") or 1
    about = ", ".join([*([kind] if kind else []), *([f"{tries} attempts"] if tries > 1 else [])])
    return f"{row['status']}{f' ({about})' if about else ''}: {printable(row['error'])}"


def counted(counts: dict[str, int]) -> str:
    """Return `45 done, 3 missing`, leaving out what there is none of."""
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number) or "none"


def say_if_missing(store: Store) -> None:
    """Say on stderr that a results directory is not there: it may be another that is meant."""
    if not store.root.is_dir():
        click.echo(f"{store.root}: no results there yet", err=True)


def show_tables(tables: Sequence[Table], form: str | None) -> None:
    """Print tables in one of the forms."""
    from gridrun.tables import latex, render

    form = form or ("text" if sys.stdout and sys.stdout.isatty() else "md")
    if form == "json":
        click.echo(render.to_json(tables))
        return
    one = {
        "text": render.to_text,
        "md": render.to_markdown,
        "csv": render.to_csv,
        "latex": latex.to_latex,
    }[form]
    click.echo("\n\n".join(one(table).rstrip() for table in tables))


def show_summary(summary: Summary, results: Path) -> None:
    """Say on stderr how a launch ended."""
    if not summary.started and not summary.interrupted:
        click.echo(f"Nothing to do: {counted(summary.plan.counts)}.", err=True)
    else:
        trials = number_of(len(summary.plan.trials), "trial")
        click.echo(f"{counted(summary.plan.counts)} of {trials} in {results}.", err=True)
    if summary.interrupted:
        click.echo("Interrupted; the same command goes on.", err=True)
    elif summary.plan.counts["failed"]:
        click.echo(
            "Failed trials: `gridrun status` says why, `gridrun retry --failed` tries again.", err=True
        )
    if summary.gave_up:
        click.echo("Gave up: trial after trial failed. The same command goes on.", err=True)


def exit_with(summary: Summary) -> None:
    """Leave with the exit code that a launch deserves."""
    if summary.interrupted:
        raise SystemExit(130)
    if summary.plan.counts["failed"]:
        raise SystemExit(1)


def show_not_kept(plan: Plan, store: Store) -> None:
    """Say on stderr which trials cannot keep weights any more."""
    missing = sum(not store.weights_path(trial.trial_id).exists() for trial in plan.ended("done"))
    if missing:
        click.echo(f"{missing} done without a kept checkpoint; no trial is trained again for one.", err=True)
