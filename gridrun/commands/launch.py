"""`gridrun launch`."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridrun.commands._grids import GridOptions, grid_options, seeds_option, set_option
from gridrun.commands._options import (
    Directory,
    SweepOptions,
    capacity_of,
    kept_by,
    results_option,
    run_sweep,
    sweep_options,
)
from gridrun.commands._plans import show_plan
from gridrun.commands._show import exit_with, show_not_kept, show_summary, show_tables
from gridrun.errors import GridrunError

if TYPE_CHECKING:
    from gridrun.plan import Plan
    from gridrun.store import Store


@click.command("launch")
@grid_options(set_option, seeds_option, required=True)
@results_option
@sweep_options
@click.option(
    "--tensorboard",
    metavar="DIR",
    type=Directory(),
    help="Write the epochs of the ended trials there, as TensorBoard's event files.",
)
@click.option("--only", metavar="ID", multiple=True, help="Run only these trials (or the start of an id).")
@click.option("--retry", is_flag=True, help="Also run again what has failed or diverged.")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
def command(
    grids: GridOptions,
    results: Path,
    options: SweepOptions,
    tensorboard: Path | None,
    only: tuple[str, ...],
    retry: bool,
    dry_run: bool,
) -> None:
    """Train what the grids ask for and the store does not have.

    Then print the tables. The same command again goes on where an interruption left off. Ctrl-C once:
    running trials save their checkpoints and stop; twice: stop at once.
    """
    from gridrun.plan import forecast_from, make_plan
    from gridrun.store import Store
    from gridrun.sweep.retries import due_again
    from gridrun.tables.build import tables_of

    wanted, store = grids.read(), Store(results)
    if dry_run:
        plan, again = make_plan(wanted, store.statuses()), due_again(wanted, store, options.retries)
        plan = narrowed(replace(plan, to_retry=again), only, retry)
        show_plan(plan, forecast_from(store, plan, plan.to_start, capacity_of(wanted, options)))
        return
    if tensorboard:
        check_events(tensorboard)
    summary = run_sweep(wanted, store, options, only=only, retry=retry)
    show_tables(tables_of(wanted, store), None)
    show_summary(summary, results)
    if kept_by(wanted, options.keep) != "none":
        show_not_kept(summary.plan, store)
    if tensorboard:
        write_events(tensorboard, store, summary.plan)
    exit_with(summary)


def check_events(directory: Path) -> None:
    """Refuse a place for event files now, rather than after hours of training."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise GridrunError("--tensorboard needs the package tensorboardX: pip install tensorboardX")
    with _writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass


def write_events(directory: Path, store: Store, plan: Plan) -> None:
    """Write the epochs of a plan's ended trials as event files, one directory a trial.

    Those of failed ones are left for when they have been tried again.
    """
    from tensorboardX import SummaryWriter  # type: ignore[import-untyped]

    ended = [trial.trial_id for trial in plan.ended("done", "diverged")]
    new = [trial_id for trial_id in ended if not (directory / trial_id).exists()]
    with _writing(directory), tempfile.TemporaryDirectory(prefix=".", dir=directory) as scratch:
        for trial_id, epochs in store.epochs(new).items():
            with SummaryWriter(str(Path(scratch, trial_id))) as writer:
                for epoch in epochs:
                    for name in ("lr", "train_loss", "train_error", "test_loss", "test_error"):
                        if epoch[name] is not None:
                            writer.add_scalar(name, epoch[name], epoch["epoch"])
            if not (directory / trial_id).exists():  # another launch may have been here
                Path(scratch, trial_id).rename(directory / trial_id)


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GridrunError(
            f"--tensorboard {directory}: cannot be written to ({error.strerror or error})"
        ) from None


def narrowed(plan: Plan, only: Sequence[str], retry: bool) -> Plan:
    """Return a plan of what `--only` and `--retry` leave to do, or all of it without them."""
    from gridrun.sweep import chosen

    if not only and not retry:
        return plan
    if retry:
        plan = replace(plan, to_retry=frozenset(t.trial_id for t in plan.ended("failed", "diverged")))
    trials = chosen(plan.to_start, plan, only)
    ids = {trial.trial_id for trial in trials}
    status = {i: s for i, s in plan.status.items() if i in ids}
    to_retry = plan.to_retry & ids
    return replace(
        plan, trials=trials, num_requested=len(trials), status=status, shared={}, to_retry=to_retry
    )
