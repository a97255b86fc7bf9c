"""`gridrun features`."""

from __future__ import annotations

from pathlib import Path

import click

from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import results_option
from gridrun.commands._out_file import OutFile
from gridrun.commands._sweep_options import threads_option
from gridrun.text import number_of


@click.command("features", cls=GroupedCommand, example="gridrun features 0c39ed photos/ -o features.parquet")
@click.argument("checkpoint", metavar="ID_OR_FILE")
@click.argument(
    "images", metavar="IMAGES...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "-o",
    "--out",
    metavar="FILE.parquet",
    required=True,
    type=OutFile(".parquet"),
    help="Write one row for each image: its path and its features.",
)
@results_option
@threads_option
@click.option("--gpus", type=click.IntRange(min=0), help="0 uses the CPU. [default: a GPU if any]")
def command(
    checkpoint: str, images: tuple[Path, ...], out: Path, results: Path, cpus_per_trial: int, gpus: int | None
) -> None:
    """Write what a network computes before its last layer, for images.

    IMAGES are files, or folders of them. They are resized, cut and normalised as the trial's test images are.
    The weights are those that the trial has kept, or a file of weights.
    """
    from gridrun import evaluation, features
    from gridrun.store import Store
    from trainer import Runtime

    if out.suffix != ".parquet":  # a glob after -o would name an image, and that would be replaced
        raise click.UsageError(f"--out {out}: must end in .parquet")
    weights = evaluation.checkpoint_path(Store(results), checkpoint)
    found = features.image_files(images)
    runtime = Runtime(device=evaluation.choose_device(gpus), threads=cpus_per_trial)
    width = features.save_features(weights, found, out, runtime)
    click.echo(f"{out}: {number_of(len(found), 'image')}, {width} features each")
