"""The `gridrun` command, also as `python cli.py`. The subcommands are in `gridrun/commands/`."""

from __future__ import annotations

import signal

_handler = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while this is imported prints no traceback

import click  # noqa: E402

import gridrun  # noqa: E402
from gridrun.commands import Commands  # noqa: E402

signal.signal(signal.SIGINT, _handler)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(gridrun.__version__, prog_name="gridrun")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(debug: bool) -> None:
    """Experiment grids for image classification.

    A grid file says which trials a table needs. gridrun trains the missing ones on the GPUs or
    CPUs of this machine or of a Ray cluster, and renders the table from the stored results.

    Exit codes: 0 all went well, 1 a trial failed or a check found a difference, 2 wrong usage, a bad grid
    or a launch that cannot go on, 130 interrupted.
    """


if __name__ == "__main__":
    main()
