"""`gridrun schedule`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import data_option
from gridrun.commands._out_file import FIGURE_SUFFIXES, OutFile
from gridrun.errors import GridrunError

if TYPE_CHECKING:
    from trainer.augmentations.policy.schedules import Schedule

SHEET_IMAGES = 7
"""Draws that a sheet shows of each epoch."""


@click.command(
    "schedule",
    cls=GroupedCommand,
    example="gridrun schedule grids/pba/schedules/rcifar10.yaml --plot rcifar10.svg",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--epochs", type=click.IntRange(min=1), help="With a log: how many epochs its search had.")
@click.option(
    "--plot",
    metavar="FILE",
    type=OutFile(*FIGURE_SUFFIXES),
    help="Draw probabilities and levels over the epochs to this png, svg or pdf file.",
)
@click.option(
    "--sheet",
    metavar="FILE",
    type=OutFile(*FIGURE_SUFFIXES),
    help="Draw what the schedule makes of one image of --dataset to this png, svg or pdf file.",
)
@click.option(
    "--at", metavar="EPOCH,...", help="With --sheet: the epochs to show. [default: 4, spread over all]"
)
@click.option("--dataset", metavar="NAME", help="With --sheet: the data set.  [default: cifar10]")
@click.option("--image", type=click.IntRange(min=0), help="With --sheet: which training image.  [default: 0]")
@click.option("--seed", type=click.IntRange(min=0), help="With --sheet: decides the draws.  [default: 0]")
@data_option
def command(
    file: Path,
    epochs: int | None,
    plot: Path | None,
    sheet: Path | None,
    at: str | None,
    dataset: str | None,
    image: int | None,
    seed: int | None,
    data: Path,
) -> None:
    """Print or draw a schedule of augmentation policies.

    It is printed as a YAML file that a grid can name. FILE is such a file, or a log of
    github.com/arcelien/pba, pbt_policy_*.txt.
    """
    from gridrun.grid.policy_schedules import import_log, read_schedule, write_schedule

    is_log = file.suffix not in (".yaml", ".yml")
    if is_log and epochs is None:
        raise click.UsageError(f"{file} is a log; say with --epochs how long its search was")
    if not is_log and epochs:
        raise click.UsageError("--epochs goes with a log")
    if not sheet and any(option is not None for option in (at, dataset, image, seed)):
        raise click.UsageError("--at, --dataset, --image and --seed go with --sheet")
    schedule = import_log(file, epochs) if epochs else read_schedule(file)
    if plot:
        _plot(schedule, file.stem, _drawable(plot))
    if sheet:
        _sheet(schedule, file.stem, _drawable(sheet), at, dataset or "cifar10", image or 0, seed or 0, data)
    if not plot and not sheet:
        click.echo(write_schedule(schedule, f"From {file.name}."), nl=False)


def _drawable(path: Path) -> Path:
    from gridrun.figures.model import FORMATS
    from trainer.registry import did_you_mean

    name = path.suffix.lstrip(".")
    if name not in FORMATS:
        raise GridrunError(f"{path}: unknown format {name!r}.{did_you_mean(name, FORMATS)}")
    return path


def _plot(schedule: Schedule, name: str, path: Path) -> None:
    from gridrun.figures.draw import save
    from gridrun.figures.policies import schedule_figure

    figure = schedule_figure(name, f"Schedule {name}", schedule)
    if figure is None:
        raise GridrunError(f"{name}: a random policy differs from trial to trial, so it cannot be drawn")
    save(figure, path)
    click.echo(path)


def _sheet(
    schedule: Schedule,
    name: str,
    path: Path,
    at: str | None,
    dataset: str,
    image: int,
    seed: int,
    data: Path,
) -> None:
    from gridrun.evaluation import read_dataset
    from gridrun.figures.draw import save
    from gridrun.figures.sheet import sheet_figure
    from gridrun.resources import default_cache_dir
    from trainer import data as trainer_data
    from trainer.augmentations.policy import Policy
    from trainer.augmentations.policy.preview import previews
    from trainer.augmentations.policy.schedules import length
    from trainer.datasets import DataError

    options, policy = read_dataset(dataset), Policy(schedule=schedule)
    if options.spec.streamed:
        raise GridrunError(f"--dataset {dataset}: has no images of one size that a policy could change")
    policy.check(options.spec)
    shown = _epochs(at, length(schedule))
    try:
        pixels = trainer_data.load(options, data.absolute(), default_cache_dir()).train_x
    except DataError as error:
        raise GridrunError(str(error)) from None
    if image >= len(pixels):
        problem = f"{options.label} has {len(pixels)} training images, the first is 0"
        raise GridrunError(f"--image {image}: {problem}")
    original = pixels[image]
    made = {
        epoch: previews(policy, original, options.spec.mean, epoch - 1, SHEET_IMAGES, seed) for epoch in shown
    }
    title = f"{options.label}, image {image}, under the schedule {name}"
    save(sheet_figure(name, title, original.transpose(1, 2, 0), made, (f"seed {seed}",)), path)
    click.echo(path)


def _epochs(text: str | None, last: int) -> list[int]:
    """Return the epochs, counted from 1. Raises GridrunError: one is no such number."""
    if text is None:
        return sorted({max(1, last * quarter // 4) for quarter in (1, 2, 3, 4)})
    try:
        epochs = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise GridrunError(f"--at {text}: must be epochs, such as 20,80,140") from None
    if outside := [epoch for epoch in epochs if not 1 <= epoch <= last]:
        raise GridrunError(f"--at {outside[0]}: the schedule has epochs 1 to {last}")
    return epochs
