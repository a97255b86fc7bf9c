"""`gridrun search`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridrun.commands import _options, _sweep_options
from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import GridOptions
from gridrun.commands._out_file import OutFile
from gridrun.commands._search import describe_round, estimate, lines_of
from gridrun.commands._show import INTERRUPTED, show_plan
from gridrun.commands._sweep_options import SweepOptions
from gridrun.errors import GridrunError
from gridrun.text import number_of

if TYPE_CHECKING:
    from gridrun.search import Progress
    from gridrun.store import Store
    from gridrun.sweep.options import LaunchOptions


def _refuse_again(_: click.Context, __: click.Parameter, what: str | None) -> None:
    """Say what to do instead: a segment that is trained anew may change all that follow."""
    if what is not None:
        raise click.UsageError(
            "a search takes no --again: `gridrun forget ID...` takes segments out of the results, and "
            "another --results begins it anew"
        )


@click.command(
    "search", cls=GroupedCommand, example="gridrun search grids/pba/search_small_0.yaml --export best.yaml"
)
@_options.grid_options(
    _options.profile_option, _options.scale_option, _options.set_option, required=True, metavar="GRID"
)
@_options.results_option
@_sweep_options.sweep_options(*_sweep_options.RUN_OPTIONS)
@click.option(
    "--export",
    metavar="FILE",
    type=OutFile(".yaml", ".yml"),
    help="Write the best member's schedule to this YAML file, for `policy: {schedule: FILE}` of a grid.",
)
@click.option(
    "--again",
    hidden=True,
    expose_value=False,
    callback=_refuse_again,
    help="Refused, with what to do instead.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan and stop; exit 1 if it is over --budget-hours.")
def command(
    grids: GridOptions, results: Path, options: SweepOptions, export: Path | None, dry_run: bool
) -> None:
    """Search a schedule of augmentation policies.

    GRID is a grid file with the key `search`. A population of trials trains for some epochs; then the
    worst go on from the best, each under a policy changed at random (Population Based Augmentation,
    arXiv:1905.05393). This repeats until the last epoch. Run the same command again to go on after an
    interruption.
    """
    from gridrun.search import read_progress
    from gridrun.store import Store
    from gridrun.sweep import over_budget

    loaded, store = grids.read(), Store(results)
    if len(loaded) != 1:
        raise GridrunError(f"name one grid file, got {len(loaded)}; run one search after the other")
    (grid,) = loaded
    if grid.search is None:
        raise GridrunError(f"{grid.path}: has no `search`; run it with `gridrun launch`")
    if export and not export.absolute().parent.is_dir():  # better now than after hours of training
        raise GridrunError(f"--export {export}: there is no directory {export.parent}")
    if export and not os.access(export.absolute().parent, os.W_OK | os.X_OK):
        raise GridrunError(f"--export {export}: its directory cannot be written")
    if export and export.exists() and any(export.samefile(path) for path in grid.files.values()):
        raise GridrunError(f"--export {export}: is the grid itself, or a file that it reads")
    resolved = options.resolve([grid])
    progress = read_progress(grid, store)
    if dry_run or not progress.is_over:
        plan, forecast = estimate(progress, store, resolved)
        if dry_run:
            show_plan(plan, forecast, resolved.budget_hours, searches=[progress])
            return
        if problem := over_budget(forecast, resolved.budget_hours):
            raise GridrunError(problem)
    _run(progress, store, replace(resolved, budget_hours=None), options)  # checked above, for all rounds
    best = progress.best
    if best is None:
        raise GridrunError(f"{progress.name}: every member has diverged")
    click.echo(describe_round(progress))
    for line in lines_of(progress.ancestry(best.member), progress):
        click.echo(line)
    if export:
        from gridrun.grid.policy_schedules import write_schedule
        from trainer import files

        source = f"{describe_round(progress)}, trial {best.trial.trial_id}"
        try:
            files.write_text(export, write_schedule(best.schedule, source))
        except OSError as error:
            again = "run the same command again with another --export"
            raise GridrunError(f"--export {export}: cannot be written ({error.strerror}); {again}") from None
        click.echo(f"{export}: the schedule of member {best.member}", err=True)


def _run(progress: Progress, store: Store, resolved: LaunchOptions, options: SweepOptions) -> None:
    """Train what the search lacks. Exit with 130 if that is interrupted, with 1 if a segment has failed."""
    from gridrun.commands._views import run_search

    listeners = options.listeners([progress.grid], store)
    executor = options.make_executor(resolved.gpus_per_trial, [progress.grid])
    summary = run_search(progress, store, resolved, executor, listeners)
    if progress.is_over:
        return
    click.echo(describe_round(progress), err=True)
    if summary and not summary.told_to_stop:
        failed = number_of(summary.plan.counts["failed"], "segment")
        hint = "`gridrun status` shows why, --retries N tries again"
        click.echo(f"Stopped: {failed} failed; {hint}.", err=True)
        raise SystemExit(1)
    click.echo(INTERRUPTED, err=True)
    raise SystemExit(130)
