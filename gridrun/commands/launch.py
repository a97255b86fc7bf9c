"""`gridrun launch`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridrun.commands._options import (
    checkpoint_seconds_option,
    data_option,
    grids_argument,
    keep_option,
    make_executor,
    profile_option,
    read_grids,
    results_option,
    scale_option,
    seeds_option,
    set_option,
)
from gridrun.commands._show import exit_with, show_not_kept, show_plan, show_summary, show_tables, tables_of
from gridrun.commands._views import make_view
from gridrun.errors import GridrunError

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.plan import Plan
    from gridrun.store import Store
    from trainer.runtime import KeepCheckpoint


@click.command("launch")
@grids_argument(required=True)
@results_option
@data_option
@click.option("--cpus", type=click.IntRange(min=1), help="CPUs to use. [default: all]")
@click.option("--gpus", type=click.IntRange(min=0), help="GPUs to use. [default: all]")
@click.option(
    "--gpus-per-trial", type=click.FloatRange(min=0), help="Below 1, trials share a GPU. [default: 1 if any]"
)
@click.option("--cpus-per-trial", type=click.IntRange(min=1), default=1, show_default=True)
@checkpoint_seconds_option
@keep_option
@click.option(
    "--tensorboard",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the epochs of the ended trials there, as TensorBoard's event files.",
)
@click.option("--mlflow", metavar="URI", help="Tell an MLflow server of every epoch. Needs mlflow.")
@click.option("--wandb", is_flag=True, help="Tell Weights & Biases of every epoch. Needs wandb.")
@click.option("--executor", type=click.Choice(["ray", "serial"]), default="ray", show_default=True)
@click.option("--only", metavar="ID", multiple=True, help="Run only these trials (or the start of an id).")
@click.option("--retry", is_flag=True, help="Also run again what has failed or diverged.")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
@set_option
@profile_option
@scale_option
@seeds_option
def command(
    grids: tuple[Path, ...],
    results: Path,
    data: Path,
    cpus: int | None,
    gpus: int | None,
    gpus_per_trial: float | None,
    cpus_per_trial: int,
    checkpoint_seconds: float,
    keep: KeepCheckpoint | None,
    tensorboard: Path | None,
    mlflow: str | None,
    wandb: bool,
    executor: str,
    only: tuple[str, ...],
    retry: bool,
    dry_run: bool,
    settings: tuple[str, ...],
    profile: str | None,
    scale: str | None,
    seeds: int | None,
) -> None:
    """Train what the grids ask for and the store does not have; then print the tables.

    The same command again goes on where an interruption left off. Ctrl-C once: running trials
    save their checkpoints and stop; twice: stop at once.
    """
    from gridrun import launch as sweep
    from gridrun.plan import make_plan
    from gridrun.store import Store
    from trainer import Runtime

    wanted, store = read_grids(grids, settings, seeds, profile=profile, scale=scale), Store(results)
    keep = keep or kept_by(wanted)
    if dry_run:
        show_plan(narrowed(make_plan(wanted, store.statuses()), only, retry), as_json=False)
        return
    runs = make_executor(executor, cpus, gpus, gpus_per_trial, cpus_per_trial, mlflow=mlflow, wandb=wandb)
    with runs, make_view() as view:
        summary = sweep.launch(
            wanted,
            store,
            runs,
            runtime=Runtime(
                data_dir=data.absolute(),
                threads=cpus_per_trial,
                checkpoint_seconds=checkpoint_seconds,
                keep_checkpoint=keep,
            ),
            only=only,
            retry=retry,
            on_event=view.show,
            on_state=view.update,
        )
    if tensorboard:
        write_events(tensorboard, store, summary.plan)
    show_tables(tables_of(wanted, store), None)
    show_summary(summary, results)
    if keep != "none":
        show_not_kept(summary.plan, store)
    exit_with(summary)


def kept_by(grids: Sequence[Grid]) -> KeepCheckpoint:
    """Return whose weights the grids keep; one launch keeps the same of all its trials."""
    said = {grid.keep_checkpoint: grid.path for grid in grids}
    if len(said) > 1:
        each = ", ".join(f"{path} says {keep}" for keep, path in said.items())
        raise GridrunError(
            f"keep_checkpoint: {each}; launch them one by one, or let --keep-checkpoint decide"
        )
    return next(iter(said))


def write_events(directory: Path, store: Store, plan: Plan) -> None:
    """Write the epochs of a plan's ended trials as event files, one directory a trial."""
    try:
        from tensorboardX import SummaryWriter  # type: ignore[import-untyped]
    except ImportError:
        raise GridrunError("--tensorboard needs the package tensorboardX: pip install tensorboardX") from None
    new = [trial_id for trial_id in plan.status if not (directory / trial_id).exists()]
    for trial_id, epochs in store.epochs(new).items():
        with SummaryWriter(str(directory / trial_id)) as writer:
            for epoch in epochs:
                for name in ("lr", "train_loss", "train_error", "test_loss", "test_error"):
                    if epoch[name] is not None:
                        writer.add_scalar(name, epoch[name], epoch["epoch"])


def narrowed(plan: Plan, only: Sequence[str], retry: bool) -> Plan:
    """Return a plan of what `--only` and `--retry` leave to do, or all of it without them."""
    from dataclasses import replace

    from gridrun.launch import chosen

    if not only and not retry:
        return plan
    trials = chosen((*plan.missing, *(plan.ended("failed", "diverged") if retry else ())), plan, only)
    ids = {trial.trial_id for trial in trials}
    return replace(plan, trials=trials, status={i: s for i, s in plan.status.items() if i in ids})
