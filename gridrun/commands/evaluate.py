"""`gridrun evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridrun.commands._help import GroupedCommand, complete_id
from gridrun.commands._options import data_option, json_option, results_option
from gridrun.commands._out_file import FIGURE_SUFFIXES, OutFile
from gridrun.commands._show import echo_json
from gridrun.commands._sweep_options import threads_option
from gridrun.text import format_percent, number_of, printable

if TYPE_CHECKING:
    from gridrun.ages import AgeReport
    from gridrun.evaluation import Report
    from trainer import Runtime


@click.command("evaluate", cls=GroupedCommand, example="gridrun evaluate 0c39ed --tta flip")
@click.argument("checkpoint", metavar="ID_OR_FILE", shell_complete=complete_id)
@results_option
@data_option
@click.option(
    "--dataset",
    metavar="NAME",
    help="Use the test set of another data set with the same image shape and classes. Give options as a "
    "mapping: '{name: svhn, extra: true}'. [default: the one the trial was tested on]",
)
@click.option(
    "--tta",
    type=click.Choice(["none", "flip", "shift", "flip+shift", "six_views", "six_views_equal", "ten_crop"]),
    help="Average the logits over an image and its mirror image, over shifts by one pixel, both, or over "
    "six views (arXiv:2404.00498). ten_crop averages the probabilities over the corners and the centre of "
    "streamed images, and their mirror images. [default: as the trial was tested]",
)
@click.option(
    "--save",
    metavar="FILE.parquet",
    type=OutFile(".parquet", *FIGURE_SUFFIXES),
    help="Write the label, prediction and probabilities of each image to this file. With --by-age: the age "
    "and the loss of each image, or, with the suffix png, svg or pdf, the figure.",
)
@click.option(
    "--by-age",
    is_flag=True,
    help="Show the loss of the training images by how many steps ago the network last saw them, beside that "
    "of the test images; all without augmentation.",
)
@threads_option
@click.option("--gpus", type=click.IntRange(min=0), help="0 evaluates on the CPU. [default: a GPU if any]")
@json_option
def command(
    checkpoint: str,
    results: Path,
    data: Path,
    dataset: str | None,
    tta: Any,
    save: Path | None,
    by_age: bool,
    cpus_per_trial: int,
    gpus: int | None,
    as_json: bool,
) -> None:
    """Evaluate a trial's kept weights, or a file, on a test set.

    Without further options this gives the same test error as the epoch that the weights are from.
    """
    from gridrun import evaluation
    from gridrun.resources import default_cache_dir
    from gridrun.store import Store
    from trainer import Runtime

    if save and not by_age and save.suffix.lower() in FIGURE_SUFFIXES:
        raise click.UsageError(f"--save {save}: is a figure only with --by-age; choose a name with .parquet")
    path = evaluation.checkpoint_path(Store(results), checkpoint)
    other = evaluation.read_dataset(dataset) if dataset else None
    device = evaluation.choose_device(gpus)
    runtime = Runtime(
        device=device, threads=cpus_per_trial, data_dir=data.absolute(), cache_dir=default_cache_dir()
    )
    if by_age:
        if dataset or tta:
            raise click.UsageError("--by-age goes with neither --dataset nor --tta")
        _by_age(path, runtime, save, as_json)
        return
    report = evaluation.evaluate(path, dataset=other, tta=tta, runtime=runtime)
    if save:
        evaluation.save_predictions(report, save)
    if as_json:
        echo_json(report.to_dict())
    else:
        show_report(report)


def _by_age(path: Path, runtime: Runtime, save: Path | None, as_json: bool) -> None:
    from gridrun import ages
    from gridrun.figures.model import FORMATS

    if save and save.suffix.lstrip(".") not in (*FORMATS, "parquet"):
        known = ", ".join(("parquet", *FORMATS))
        raise click.UsageError(f"--save {save}: must have one of the suffixes {known}")
    report = ages.report_by_age(path, runtime)
    if save and save.suffix.lstrip(".") in FORMATS:
        from gridrun.figures import draw
        from gridrun.figures.ages import figure_of

        draw.save(figure_of(report), save)
    elif save:
        ages.save_ages(report.ages, save)
    if as_json:
        echo_json(report.to_dict())
    else:
        show_ages(report)


def show_ages(report: AgeReport) -> None:
    """Print the losses by age."""
    kept = report.checkpoint
    click.echo(f"{kept.config.model.label}, {kept.which} epoch ({kept.epoch}), seed {kept.seed}")
    click.echo(f"training images of {kept.config.dataset.label}, without augmentation\n")
    click.echo("steps ago     images      loss")
    for one in report.bins:
        steps = str(one.first) if one.first == one.last else f"{one.first}-{one.last}"
        click.echo(f"{steps:>9} {one.images:10} {_loss(one.loss):>9}")
    click.echo(f"{'test':>9} {report.ages.num_test:10} {_loss(report.test_loss):>9}")


def _loss(loss: float | None) -> str:
    return "not finite" if loss is None else f"{loss:.4f}"


MAX_CLASSES_SHOWN = 20  # largest confusion matrix printed, so that it fits a screen


def show_report(report: Report) -> None:
    """Print the result of an evaluation."""
    from gridrun.grid.describe import describe_tta

    kept, found = report.checkpoint, report.evaluation
    views = describe_tta(found.tta, found.tta_least_confident)
    views = f", {views}" if views else ""
    click.echo(f"{kept.config.model.label}, {kept.which} epoch ({kept.epoch}), seed {kept.seed}")
    click.echo(f"{report.on}, {number_of(len(found.labels), 'image')}{views}")
    top5 = "" if found.top5_error is None else f", top-5 error {format_percent(found.top5_error)} %"
    click.echo(f"test error {format_percent(found.error)} %{top5}, loss {_loss(found.loss)}\n")
    confusion = found.confusion
    shown = len(confusion) <= MAX_CLASSES_SHOWN
    width = max(5, len(str(confusion.max())) + 1)
    headers = "".join(f"{i:{width}}" for i in range(len(confusion))) if shown else ""
    names = [f"{i:5}" for i in range(len(confusion))]
    if found.classes:
        names = [f"{number} {printable(name)}" for number, name in zip(names, found.classes, strict=True)]
    name_width = max(map(len, names))
    click.echo(f"{'class':{name_width}}   images    error{'  ' if shown else ''}{headers}")
    for name, row, error in zip(names, confusion, found.class_errors, strict=True):
        percent = "" if error is None else f"{format_percent(error)} %"
        counts = "  " + "".join(f"{count:{width}}" for count in row) if shown else ""
        click.echo(f"{name:{name_width}} {row.sum():8} {percent:>8}{counts}".rstrip())
    note = "columns: images by predicted class" if shown else "--json has the confusion matrix"
    click.echo(f"\n{note}")
