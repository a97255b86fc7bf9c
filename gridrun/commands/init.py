"""`gridrun init`."""

from __future__ import annotations

from pathlib import Path

import click

from gridrun.commands._help import GroupedCommand
from gridrun.commands.schema import schema_text, write_schema
from gridrun.errors import GridrunError

SCHEMA = "schema.json"
"""Name of the schema's file, beside the grid."""
STARTER = """\
# yaml-language-server: $schema={schema}
# Which learning rate suits which batch size?
# Run:    gridrun launch {path}
# Expect: what you think will come out.  Cost: `gridrun plan {path}` estimates it.

title: {title}

base:                                       # what all trials share; `gridrun list options` shows every option
  dataset: digits                           # `gridrun list datasets`; your own images: `gridrun init --help`
  model: {{name: resnet_preact, depth: 8}}    # `gridrun list models`, `gridrun list models resnet_preact`
  augmentation:                             # `gridrun list augmentations`
    random_crop: {{padding: 1}}
  epochs: 5

axes:                                       # what varies: the table has a row for each combination
  - batch_size: [32, 128]
  - lr: [0.05, 0.2]
# - cases:                                  # or rows as they come, each with a name
#     - {{name: plain}}
#     - {{name: with warm-up, warmup: {{name: linear, epochs: 1}}}}

# derive: {{lr: 0.1 * batch_size / 128}}      # options computed from others
# exclude: [{{batch_size: 32, lr: 0.2}}]      # rows to leave out

seeds: 3                                    # runs of each row; the table shows their median

# keep_checkpoint: last                     # keep weights, for `gridrun evaluate`
# profiles:                                 # smaller versions, for `--profile quick`
#   quick: {{scale: {{epochs: 1, train: 500}}, seeds: 1}}
# tables:                                   # left out: one table with the columns that differ
#   - columns: [model, batch_size, lr, test_error, train_time]
# plots:                                    # left out: one figure for each table
#   - {{kind: line, x: lr, by: batch_size}}
"""


@click.command("init", cls=GroupedCommand, example="gridrun init grids/my_study.yaml")
@click.argument("path", metavar="[GRID]", default="grids/my_study.yaml", type=click.Path(path_type=Path))
def command(path: Path) -> None:
    """Write a grid file to start from, and a schema for your editor.

    The file has comments and is small enough to run in a minute. The schema lies beside it: see `gridrun
    schema --help`. Nothing is overwritten but an older schema.
    """
    if path.suffix != ".yaml":
        raise GridrunError(f"{path}: the name must end in .yaml")
    if path.exists():
        raise GridrunError(f"{path}: is there already; choose another name")
    write_schema(path.parent / SCHEMA, schema_text())
    title = path.stem.replace("_", " ").capitalize()
    _write(path, STARTER.format(schema=SCHEMA, path=path, title=title))
    click.echo(f"{path}: written. Now: gridrun plan {path}")


def _write(path: Path, text: str) -> None:
    from trainer import files

    try:
        files.write_text(path, text)
    except OSError as error:
        raise GridrunError(f"{path}: cannot be written: {error.strerror}") from None
