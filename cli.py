"""The command line: the only place that prints. Results go to stdout, progress and errors to stderr.

Everything heavier than click is imported by the command that needs it, so that `--help`, `plan`,
`status` and `table` answer at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import gridrun
from gridrun.errors import GridrunError

if TYPE_CHECKING:
    from gridrun.evaluation import Report
    from gridrun.executors.base import Executor
    from gridrun.grid import Grid
    from gridrun.launch import LaunchEvent, Summary
    from gridrun.plan import Plan
    from gridrun.store import Row, Store
    from gridrun.tables import Table
    from trainer.models import ModelOptions
    from trainer.runtime import KeepCheckpoint


FunctionT = TypeVar("FunctionT", bound="Callable[..., Any]")


class Problem(click.ClickException):
    """A user's mistake: one message, exit 2."""

    exit_code = 2


class Commands(click.Group):
    """Turns what a user can mend into a message, and leaves a traceback to `--debug`."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GridrunError as error:
            if ctx.params.get("debug"):
                raise
            raise Problem(str(error)) from None
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            raise SystemExit(130) from None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from trainer.registry import did_you_mean

            raise click.UsageError(
                f"{error.message.rstrip('.')}.{did_you_mean(args[0], self.commands)}", ctx
            ) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(gridrun.__version__, prog_name="gridrun")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(debug: bool) -> None:
    """Experiment grids for image classification.

    A grid file says which trials a table needs. gridrun runs those that are missing, on the GPUs
    that Ray can see, and renders the table from what is stored.

    Exit codes: 0 all went well, 1 a trial failed or a check found a difference, 2 wrong usage or
    a bad grid, 130 interrupted.
    """


# --- options that commands share ------------------------------------------------------------------


def grids_argument(*, required: bool) -> Callable[[FunctionT], FunctionT]:
    return click.argument(
        "grids", metavar="GRID...", nargs=-1, required=required, type=click.Path(path_type=Path)
    )


results_option = click.option(
    "--results",
    metavar="DIR",
    envvar="GRIDRUN_RESULTS",
    default="results",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The store: where results are kept. [env: GRIDRUN_RESULTS]",
)
set_option = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set a trainer option in every trial, such as model.depth=56.",
)
seeds_option = click.option(
    "--seeds", type=click.IntRange(min=1), help="Run seeds 0..N-1 instead of the grid's."
)
data_option = click.option(
    "--data",
    metavar="DIR",
    envvar="GRIDRUN_DATA",
    default="data",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where data-set archives are; what is not there is downloaded. [env: GRIDRUN_DATA]",
)
checkpoint_seconds_option = click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Save running trials so often; a kill loses at most that much.",
)
keep_option = click.option(
    "--keep-checkpoint",
    "keep",
    type=click.Choice(["last", "best", "none"]),
    help="Keep each trial's weights after its last epoch, or after that of the lowest test error. "
    "[default: what the grids say, else none]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def read_grids(paths: Sequence[Path], settings: Sequence[str] = (), seeds: int | None = None) -> list[Grid]:
    """Load grid files, every `grids/*.yaml` if none is named."""
    from gridrun.grid import load_grid
    from gridrun.grid.overrides import parse_overrides

    if not paths:
        paths = sorted(Path("grids").glob("*.yaml"))
        if not paths:
            raise Problem("no grid file is named, and there is no grids/*.yaml here")
    overrides = parse_overrides(settings)
    grids = [load_grid(path, overrides) for path in paths]
    return [grid.with_seeds(seeds) for grid in grids] if seeds else grids


def echo_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


# --- commands that answer from the store ------------------------------------------------------------


@main.command()
@grids_argument(required=False)
@results_option
@set_option
@seeds_option
@json_option
def plan(
    grids: tuple[Path, ...], results: Path, settings: tuple[str, ...], seeds: int | None, as_json: bool
) -> None:
    """Show what a launch would do: trials, done, missing, failed, their order. Starts nothing."""
    from gridrun.plan import make_plan
    from gridrun.store import Store

    show_plan(make_plan(read_grids(grids, settings, seeds), Store(results).statuses()), as_json)


def show_plan(plan: Plan, as_json: bool) -> None:
    """Print a plan."""
    if as_json:
        echo_json(
            {
                "trials": len(plan.trials),
                "configs": len({trial.config_id for trial in plan.trials}),
                "asked_for": plan.asked_for,
                **plan.counts,
                "order": [
                    {"trial_id": trial.trial_id, "config_id": trial.config_id, "seed": trial.seed}
                    for trial in plan.missing
                ],
            }
        )
        return
    click.echo(f"{len(plan.trials)} trials: {counted(plan.counts)}")
    if plan.asked_for > len(plan.trials):
        click.echo(f"{plan.asked_for - len(plan.trials)} more are asked for twice and trained once")
    for trial in plan.missing[:20]:
        click.echo(f"  {trial.trial_id}  {describe(trial)}")
    if len(plan.missing) > 20:
        click.echo(f"  ... and {len(plan.missing) - 20} more (--json shows all)")


def describe(trial: Any) -> str:
    """Return a trial in a few words."""
    config = trial.config
    return (
        f"{config.dataset.name} {config.model.label}, batch size {config.batch_size}, lr {config.lr:g}, "
        f"{config.schedule.name}, {config.epochs} epochs, seed {trial.seed}"
    )


def counted(counts: dict[str, int]) -> str:
    """Return `45 done, 3 missing`, leaving out what there is none of."""
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number) or "none"


@main.command()
@grids_argument(required=False)
@results_option
@json_option
def status(grids: tuple[Path, ...], results: Path, as_json: bool) -> None:
    """Show what is running, done, failed and left, of some grids or of the whole store."""
    from collections import Counter

    from gridrun.plan import make_plan
    from gridrun.store import Store

    store = Store(results)
    statuses, launches = store.statuses(), store.launches()
    running = {trial_id: state for launch in launches for trial_id, state in launch["running"].items()}
    if grids:
        wanted = make_plan(read_grids(grids), statuses)
        running = {
            trial.trial_id: running[trial.trial_id] for trial in wanted.trials if trial.trial_id in running
        }
        counts = wanted.counts
        counts["missing"] -= sum(trial.trial_id in running for trial in wanted.missing)
    else:
        counts = dict(Counter(statuses.values()))
    if as_json:
        echo_json({**counts, "running": running, "launches": len(launches)})
        return
    click.echo(f"{counted({'running': len(running), **counts})} (launches under way: {len(launches)})")
    for trial_id, state in running.items():
        error = state.get("test_error")
        figure = "" if error is None else f", test error {100 * error:.2f} %"
        click.echo(f"  {trial_id}  epoch {state['epoch']} of {state['epochs']}{figure}")
    failures = [row for row in store.rows().values() if row["status"] != "done"] if counts else []
    for row in failures[:20]:
        if not grids or row["trial_id"] in wanted.status:
            click.echo(f"  {row['trial_id']}  {row['status']}: {printable(row['error'])}")


@main.command()
@click.argument("trial", metavar="ID")
@results_option
@json_option
def show(trial: str, results: Path, as_json: bool) -> None:
    """Show one ended trial whole, by its id or the beginning of it."""
    from gridrun.records import about
    from gridrun.store import Store

    store = Store(results)
    trial_id = store.find(trial)
    parts = about(store.rows([trial_id])[trial_id])
    if as_json:
        epochs = [
            {name: value for name, value in epoch.items() if name != "trial_id"}
            for epoch in store.epochs([trial_id]).get(trial_id, [])
        ]
        echo_json({**parts, "epochs": epochs})
        return
    traceback = parts["trial"].pop("traceback", None)
    for title, values in parts.items():
        click.echo(f"{title}:")
        for name, value in values.items():
            click.echo(f"  {name:28} {printable(str(value))}")
    for line in (traceback or "").splitlines():
        click.echo(printable(line))


def printable(text: str | None) -> str:
    """Return a stored text without what would steer a terminal."""
    return "".join(c for c in text or "" if c.isprintable())


@main.command()
@grids_argument(required=False)
@results_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "md", "json", "csv"]),
    help="[default: text on a terminal, else md]",
)
@click.option(
    "--readme",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Rewrite the tables between the markers of a Markdown file instead.",
)
@click.option("--check", is_flag=True, help="With --readme: change nothing, exit 1 where the file differs.")
def table(grids: tuple[Path, ...], results: Path, form: str | None, readme: Path | None, check: bool) -> None:
    """Print the tables of some grids, of every grids/*.yaml if none is named."""
    from gridrun.store import Store

    if readme:
        if grids:
            raise click.UsageError("with --readme, the file's markers name the grids")
        update_readme(readme, check)
        return
    if check:
        raise click.UsageError("--check goes with --readme")
    show_tables(tables_of(read_grids(grids), Store(results)), form)


def update_readme(path: Path, check: bool) -> None:
    """Bring the tables of a Markdown file up to date, or only say whether they are."""
    from gridrun import files, render
    from gridrun.readme import Request, rewrite
    from gridrun.store import Store

    def rendered(request: Request) -> str:
        grids = read_grids([path.parent / grid for grid in request.grids])
        tables = tables_of(grids, Store(path.parent / request.results))
        return "\n\n".join(render.to_markdown(table).rstrip() for table in tables)

    old = path.read_text(encoding="utf-8")
    new = rewrite(old, rendered)
    if old == new:
        click.echo(f"{path}: up to date", err=True)
    elif check:
        click.echo(f"{path}: differs from the stored results; run `gridrun table --readme {path}`", err=True)
        raise SystemExit(1)
    else:
        files.write(path, new)
        click.echo(f"{path}: rewritten", err=True)


def tables_of(grids: Sequence[Grid], store: Store) -> list[Table]:
    """Build every table of some grids from what is stored."""
    from gridrun.tables import build_table

    rows = store.rows([trial.trial_id for grid in grids for trial in grid.trials])
    return [build_table(spec, grid.seeds, rows) for grid in grids for spec in grid.tables]


def show_tables(tables: Sequence[Table], form: str | None) -> None:
    """Print tables in one of the forms."""
    from gridrun import render

    form = form or ("text" if sys.stdout.isatty() else "md")
    if form == "json":
        click.echo(render.to_json(tables))
        return
    one = {"text": render.to_text, "md": render.to_markdown, "csv": render.to_csv}[form]
    click.echo("\n\n".join(one(table).rstrip() for table in tables))


@main.command("list")
@click.argument(
    "what",
    type=click.Choice(["models", "datasets", "augmentations", "optimizers", "schedules", "warmups", "grids"]),
)
@click.option("--counts", is_flag=True, help="With models: how large each is, and how much it computes.")
def list_(what: str, counts: bool) -> None:
    """List what there is to choose from.

    A model stands there with its default options or, where some are required, as a well-known
    example. Counted are trainable parameters, and multiply-accumulates of the convolutional and
    linear layers for one image: of 32x32 pixels and 10 classes or, of an ImageNet network, of
    224x224 and 1000.
    """
    if counts and what != "models":
        raise click.UsageError("--counts goes with models")
    if what == "models":
        list_models(counts)
        return
    if what == "grids":
        for grid in read_grids([]):
            click.echo(f"{grid.path}  {len(grid.trials)} trials  {printable(grid.title)}")
        return
    import importlib

    registry = getattr(importlib.import_module(f"trainer.{what}"), what)
    for name in registry.names():
        options = registry.get(name)
        about = next(iter((options.__doc__ or "").splitlines()), "")
        click.echo(f"{name:20} {about}")


def list_models(counts: bool) -> None:
    """Print every model family; with `counts`, import torch."""
    from trainer.models import models

    if counts:
        click.echo(f"{'name':24} {'model':44} {'parameters':>12} {'MACs':>15}  image")
    for name in models.names():
        family = models.get(name)
        example = example_of(family)
        if counts:
            about = counted_model(example) if example else ""
        else:
            about = next(iter((family.__doc__ or "").splitlines()), "")
        click.echo(f"{name:24} {example.label if example else '':44} {about}".rstrip())


def example_of(family: type[ModelOptions]) -> ModelOptions | None:
    """Return a family's default network, else a well-known one; None of a family unheard of."""
    from trainer.schema import ConfigError, read

    for options in ({}, {"depth": 20}, {"arch": "resnet50"}):
        try:
            return read(family, options)
        except ConfigError:
            continue
    return None


def counted_model(options: ModelOptions) -> str:
    """Return parameters, MACs and the image they are of."""
    from trainer.datasets import DataSpec
    from trainer.evaluation import on_meta
    from trainer.models.count import count_macs, count_params
    from trainer.schema import ConfigError

    for size, classes in ((32, 10), (224, 1000)):
        grey = (0.5, 0.5, 0.5)
        spec = DataSpec(
            num_classes=classes, channels=3, image_size=size, num_train=1, num_test=1, mean=grey, std=grey
        )
        try:
            options.check(spec)
        except ConfigError:
            continue
        network = on_meta(options, spec)
        return f"{count_params(network):12,} {count_macs(network, spec):15,}  {size}x{size}x3"
    return ""


# --- commands that train -----------------------------------------------------------------------------


@main.command()
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
@click.option("--executor", type=click.Choice(["ray", "serial"]), default="ray", show_default=True)
@click.option("--only", metavar="ID", multiple=True, help="Run only these trials (or the start of an id).")
@click.option("--retry", is_flag=True, help="Also run again what has failed or diverged.")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
@set_option
@seeds_option
def launch(
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
    executor: str,
    only: tuple[str, ...],
    retry: bool,
    dry_run: bool,
    settings: tuple[str, ...],
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

    wanted, store = read_grids(grids, settings, seeds), Store(results)
    keep = keep or kept_by(wanted)
    if dry_run:
        show_plan(narrowed(make_plan(wanted, store.statuses()), only, retry), as_json=False)
        return
    with make_executor(executor, cpus, gpus, gpus_per_trial, cpus_per_trial) as runs, make_view() as view:
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
        )
    if tensorboard:
        write_events(tensorboard, store, summary.plan)
    show_tables(tables_of(wanted, store), None)
    show_summary(summary, results)
    if keep != "none":
        show_not_kept(summary.plan, store)
    exit_with(summary)


def exit_with(summary: Summary) -> None:
    """Leave with the exit code that a launch deserves."""
    if summary.interrupted:
        raise SystemExit(130)
    if summary.plan.counts["failed"]:
        raise SystemExit(1)


def kept_by(grids: Sequence[Grid]) -> KeepCheckpoint:
    """Return whose weights the grids keep; one launch keeps the same of all its trials."""
    said = {grid.keep_checkpoint: grid.path for grid in grids}
    if len(said) > 1:
        each = ", ".join(f"{path} says {keep}" for keep, path in said.items())
        raise Problem(f"keep_checkpoint: {each}; launch them one by one, or let --keep-checkpoint decide")
    return next(iter(said))


def show_not_kept(plan: Plan, store: Store) -> None:
    """Say on stderr which trials cannot keep weights any more."""
    missing = sum(not store.kept(trial.trial_id).exists() for trial in plan.ended("done"))
    if missing:
        click.echo(f"{missing} done without a kept checkpoint; they are not trained again for one.", err=True)


def write_events(directory: Path, store: Store, plan: Plan) -> None:
    """Write the epochs of a plan's ended trials as event files, one directory a trial."""
    try:
        from tensorboardX import SummaryWriter  # type: ignore[import-untyped]
    except ImportError:
        raise Problem("--tensorboard needs the package tensorboardX: pip install tensorboardX") from None
    new = [trial_id for trial_id in plan.status if not (directory / trial_id).exists()]
    for trial_id, epochs in store.epochs(new).items():
        with SummaryWriter(str(directory / trial_id)) as writer:
            for epoch in epochs:
                for name in ("lr", "train_loss", "train_error", "test_loss", "test_error"):
                    if epoch[name] is not None:
                        writer.add_scalar(name, epoch[name], epoch["epoch"])


@main.command()
@click.argument("settings", metavar="KEY=VALUE...", nargs=-1, required=True)
@results_option
@data_option
@click.option("--cpus", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads.")
@click.option("--gpus", type=click.IntRange(min=0), help="0 trains on the CPU. [default: a GPU if any]")
@checkpoint_seconds_option
@keep_option
@click.option("--executor", type=click.Choice(["ray", "serial"]), default="serial", show_default=True)
def train(
    settings: tuple[str, ...],
    results: Path,
    data: Path,
    cpus: int,
    gpus: int | None,
    checkpoint_seconds: float,
    keep: KeepCheckpoint | None,
    executor: str,
) -> None:
    """Train one trial without a grid: model=resnet model.depth=20 epochs=10 seed=1.

    It has the id, and the place in the store, that a grid would give it. A trial that is done is
    not trained again; one that failed or diverged is.
    """
    from gridrun import launch as sweep
    from gridrun.grid import lone_trial
    from gridrun.store import Store
    from trainer import Runtime

    grid, store = lone_trial(settings), Store(results)
    with make_executor(executor, None, gpus, None, cpus) as runs:
        summary = sweep.launch(
            [grid],
            store,
            runs,
            runtime=Runtime(
                data_dir=data.absolute(),
                threads=cpus,
                checkpoint_seconds=checkpoint_seconds,
                keep_checkpoint=keep or "none",
            ),
            retry=True,
            on_event=EpochView().show,
        )
    (trial,) = grid.trials
    for row in store.rows([trial.trial_id]).values():
        click.echo(ended(row))
    if summary.interrupted:
        click.echo("Interrupted; the same command goes on.", err=True)
    if keep not in (None, "none"):
        show_not_kept(summary.plan, store)
    exit_with(summary)


def ended(row: Row) -> str:
    """Return the line that says how a trial ended."""
    if row["status"] != "done":
        return f"{row['trial_id']}  {row['status']}: {printable(row['error'])}"
    return (
        f"{row['trial_id']}  done: test error {100 * row['test_error']:.2f} %, "
        f"{row['epochs_trained']} epochs in {row['train_seconds']:.1f} s"
    )


@main.command()
@click.argument("checkpoint", metavar="ID_OR_FILE")
@results_option
@data_option
@click.option(
    "--dataset",
    metavar="NAME",
    help="Use the test set of another data set, of the same image shape and classes. A mapping gives "
    "options: '{name: svhn, extra: true}'. [default: what the trial was tested on]",
)
@click.option(
    "--tta",
    type=click.Choice(["flip", "shift", "flip+shift", "none"]),
    default="none",
    show_default=True,
    help="Average the probabilities over the mirror image, over shifts by a pixel, or both.",
)
@click.option(
    "--save",
    metavar="FILE.parquet",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write label, prediction and probabilities of each image.",
)
@click.option("--cpus", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads.")
@click.option("--gpus", type=click.IntRange(min=0), help="0 evaluates on the CPU. [default: a GPU if any]")
@json_option
def evaluate(
    checkpoint: str,
    results: Path,
    data: Path,
    dataset: str | None,
    tta: Any,
    save: Path | None,
    cpus: int,
    gpus: int | None,
    as_json: bool,
) -> None:
    """Evaluate the weights that a trial has kept, or those in a file, on a test set.

    Nothing else asked for, it repeats the test error of the epoch they are of.
    """
    from gridrun import evaluation
    from gridrun.store import Store
    from trainer import Runtime

    path = evaluation.checkpoint_path(Store(results), checkpoint)
    chosen = evaluation.read_dataset(dataset) if dataset else None
    device = evaluation.choose_device(gpus)
    runtime = Runtime(device=device, threads=cpus, data_dir=data.absolute())
    report = evaluation.evaluate(path, dataset=chosen, tta=tta, runtime=runtime)
    if save:
        evaluation.save_predictions(report.evaluation, save)
    if as_json:
        echo_json(report.to_dict())
    else:
        show_report(report)


MAX_CLASSES_SHOWN = 20
"""Of a confusion matrix, so that it fits a screen."""


def show_report(report: Report) -> None:
    """Print what an evaluation came to."""
    kept, found = report.checkpoint, report.evaluation
    loss = "not finite" if found.loss is None else f"{found.loss:.4f}"
    views = "" if report.tta == "none" else f", averaged over {report.tta}"
    click.echo(f"{kept.config.model.label}, {kept.kept} epoch ({kept.epoch}), seed {kept.seed}")
    click.echo(f"{report.on}, {len(found.labels)} images{views}")
    click.echo(f"test error {100 * found.error:.2f} %, loss {loss}\n")
    confusion = found.confusion
    shown = len(confusion) <= MAX_CLASSES_SHOWN
    width = max(5, len(str(confusion.max())) + 1)
    headers = "".join(f"{i:{width}}" for i in range(len(confusion))) if shown else ""
    click.echo(f"class   images   error{'  ' if shown else ''}{headers}")
    for label, (row, error) in enumerate(zip(confusion, found.class_errors, strict=True)):
        figure = "" if error is None else f"{100 * error:.2f} %"
        counts = "  " + "".join(f"{count:{width}}" for count in row) if shown else ""
        click.echo(f"{label:5} {row.sum():8} {figure:>7}{counts}".rstrip())
    note = "columns: images by predicted class" if shown else "--json has the confusion matrix"
    click.echo(f"\n{note}")


def narrowed(plan: Plan, only: Sequence[str], retry: bool) -> Plan:
    """Return a plan of what `--only` and `--retry` leave to do, or all of it without them."""
    from dataclasses import replace

    from gridrun.launch import chosen

    if not only and not retry:
        return plan
    trials = chosen((*plan.missing, *(plan.ended("failed", "diverged") if retry else ())), plan, only)
    ids = {trial.trial_id for trial in trials}
    return replace(plan, trials=trials, status={i: s for i, s in plan.status.items() if i in ids})


def make_executor(
    name: str, cpus: int | None, gpus: int | None, gpus_per_trial: float | None, cpus_per_trial: int
) -> Executor:
    """Return the executor called `name`; it starts nothing before it has work."""
    if name == "serial":
        from gridrun.executors.serial import SerialExecutor

        return SerialExecutor(gpus)
    from gridrun.executors.ray_tune import RayTuneExecutor, Resources

    return RayTuneExecutor(
        Resources(cpus=cpus, gpus=gpus, gpus_per_trial=gpus_per_trial, cpus_per_trial=cpus_per_trial)
    )


def show_summary(summary: Summary, results: Path) -> None:
    """Say on stderr how a launch ended."""
    if not summary.started and not summary.interrupted:
        click.echo(f"Nothing to do: {counted(summary.plan.counts)}.", err=True)
    else:
        click.echo(
            f"{counted(summary.plan.counts)} of {len(summary.plan.trials)} trials in {results}.", err=True
        )
    if summary.interrupted:
        click.echo("Interrupted; the same command goes on.", err=True)
    elif summary.plan.counts["failed"]:
        click.echo(
            "Failed trials: `gridrun status` says why, `gridrun launch --retry` tries again.", err=True
        )


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
                figure = "not finite" if test_error is None else f"{100 * test_error:.2f} %"
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


@main.command()
@results_option
@json_option
def doctor(results: Path, as_json: bool) -> None:
    """Show what this machine can do, and what is missing."""
    from gridrun.doctor import examine

    findings = examine(results)
    if as_json:
        echo_json([{"what": f.what, "found": f.found, "ok": f.ok} for f in findings])
    else:
        for finding in findings:
            click.echo(f"{'ok ' if finding.ok else 'NO '} {finding.what:22} {printable(finding.found)}")
    if not all(finding.ok for finding in findings):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
