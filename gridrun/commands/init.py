"""`gridrun init`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import data_option
from gridrun.commands.schema import schema_text, write_schema
from gridrun.errors import GridError, GridrunError
from gridrun.text import one_line

SCHEMA = "schema.json"
"""Name of the schema's file, beside the grid."""
STARTER = """\
# yaml-language-server: $schema={schema}
# Which learning rate suits which batch size?
# Run:    gridrun launch {path}
# Expect: what you think will come out.  Cost: `gridrun plan {path}` estimates it.

title: {title}

base:                                       # what all trials share; `gridrun list options` shows every option
{dataset}
  model: {{name: resnet_preact, depth: 8}}    # `gridrun list models`, `gridrun list models resnet_preact`
  augmentation:                             # `gridrun list augmentations`
    random_crop: {{padding: 1}}
  epochs: 5

axes:                                       # what varies: the table has a row for each combination
  - batch_size: {batch_sizes}
  - lr: [0.05, 0.2]
# - cases:                                  # or rows as they come, each with a name
#     - {{name: plain}}
#     - {{name: with warm-up, warmup: {{name: linear, epochs: 1}}}}

# derive: {{lr: 0.1 * batch_size / 128}}      # options computed from others
# exclude: [{{batch_size: {batch_sizes[0]}, lr: 0.2}}]      # rows to leave out

seeds: 3                                    # runs of each row; the table shows their median

# keep_checkpoint: last                     # keep weights, for `gridrun evaluate`
# profiles:                                 # smaller versions, for `--profile quick`
#   quick: {{scale: {{epochs: 1, train: 0.5}}, seeds: 1}}
# tables:                                   # left out: one table with the columns that differ
#   - columns: [model, batch_size, lr, test_error, train_time]
# plots:                                    # left out: one figure for each table
#   - {{kind: line, x: lr, by: batch_size}}
"""


DIGITS = "  dataset: digits                           # `gridrun list datasets`; your own images: --images"


@click.command("init", cls=GroupedCommand, example="gridrun init grids/my_study.yaml")
@click.argument("path", metavar="[GRID]", default="grids/my_study.yaml", type=click.Path(path_type=Path))
@click.option(
    "--images",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Describe your own images in the grid: a folder with train/CLASS and test/CLASS (or val/CLASS).",
)
@click.option(
    "--image-size",
    metavar="PIXELS",
    type=click.IntRange(min=4, max=1024),
    help="With --images: height and width that they are cut to. [default: 32]",
)
@data_option
def command(path: Path, images: Path | None, image_size: int | None, data: Path) -> None:
    """Write a grid file to start from, and a schema for your editor.

    The file has comments and is small enough to run in a minute. The schema lies beside it: see `gridrun
    schema --help`. Nothing is overwritten but an older schema.
    """
    from gridrun.grid.node import Node, locate

    if path.suffix != ".yaml":
        raise GridrunError(f"{path}: the name must end in .yaml")
    try:
        Node(path, "", locate(path.stem)).name()
    except GridError:
        problem = "its name, without .yaml, may hold letters, digits, `_`, `-` and `.` only"
        raise GridrunError(f"{path}: {problem}; it is part of the names of files") from None
    if path.exists():
        raise GridrunError(f"{path}: is there already; choose another name")
    if image_size and not images:
        raise click.UsageError("--image-size goes with --images")
    dataset, num_train = _described(images, image_size or 32) if images else (DIGITS, 1437)
    sizes = [size for size in (32, 128) if size <= num_train] or [1]
    write_schema(path.parent / SCHEMA, schema_text())
    title = path.stem.replace("_", " ").capitalize()
    text = STARTER.format(
        schema=SCHEMA, path=path, title=json.dumps(title), dataset=dataset, batch_sizes=sizes
    )
    _write(path, text)
    click.echo(f"{path}: written. Now: gridrun plan {path}")
    home = data / "image_folder"
    if images and images.resolve().parent != home.resolve():
        click.echo(f"Trials look for the images in {home}: move the folder there, or a link to it:")
        click.echo(f"  mkdir -p {home} && ln -s {shlex.quote(str(images.resolve()))} {home}/")


def _described(images: Path, image_size: int) -> tuple[str, int]:
    """Return the lines of a grid that describe a folder of images, and its number of training images."""
    from trainer.datasets import DataError
    from trainer.datasets._measured import measured

    try:
        options = measured(images, image_size)
    except (DataError, OSError) as error:
        raise GridrunError(f"--images: {error}") from None
    lines = [f"  dataset:  # {one_line(images.name)}, found by its digest"]
    return "\n".join([*lines, *(f"    {key}: {value}" for key, value in _as_yaml(options))]), options[
        "num_train"
    ]


def _as_yaml(options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield options and their values as YAML has them; a digest in quotes, as 1e10 would be a number."""
    for key, value in options.items():
        yield key, f'"{value}"' if key == "digest" else value


def _write(path: Path, text: str) -> None:
    from trainer import files

    try:
        files.write_text(path, text)
    except OSError as error:
        raise GridrunError(f"{path}: cannot be written: {error.strerror}") from None
