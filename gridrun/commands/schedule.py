"""`gridrun schedule`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("schedule")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--epochs", type=click.IntRange(min=1), help="With a log: how many epochs its search had.")
def command(file: Path, epochs: int | None) -> None:
    """Print a schedule of augmentation policies as a YAML file that a grid can name.

    FILE is such a file, or a log of github.com/arcelien/pba, pbt_policy_*.txt.
    """
    from gridrun.grid.policy_schedules import import_log, read_schedule, write_schedule

    is_log = file.suffix not in (".yaml", ".yml")
    if is_log and epochs is None:
        raise click.UsageError(f"{file} is a log; say with --epochs how long its search was")
    if not is_log and epochs:
        raise click.UsageError("--epochs goes with a log")
    schedule = import_log(file, epochs) if epochs else read_schedule(file)
    click.echo(write_schedule(schedule, f"From {file.name}."), nl=False)
