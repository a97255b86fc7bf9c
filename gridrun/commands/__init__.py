"""The command line, one command a file: its module's name is the command's, its `command` the click command.

The only package that prints. Results go to stdout, progress and errors to stderr. Everything
heavier than click is imported by the command that needs it, so that `--help`, `plan`, `status`
and `table` answer at once.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import pkgutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from gridrun.errors import GridrunError


class Problem(click.ClickException):
    """A user's mistake: one message, exit 2."""

    exit_code = 2


_TOLD = f"{__name__}.told"


def tell_of(error: GridrunError) -> None:
    """Print a mistake that the command can go on with; it exits with 2 in the end."""
    click.echo(f"Error: {error}", err=True)
    click.get_current_context().meta[_TOLD] = True


class Commands(click.Group):
    """Every command of this package, imported when it is called.

    Turns what a user can mend into a message, and leaves a traceback to `--debug`.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name[0] != "_")

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{name}").command
        return command

    def main(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().main(*arguments, **options)
        except OSError as error:  # click itself sees to a closed pipe
            if not _is_of_output(error):
                raise
            with contextlib.suppress(OSError):
                click.echo(f"Error: the output cannot be written: {error.strerror}", err=True)
            _drop_output()
            raise SystemExit(1) from None
        finally:  # once Python leaves, there is nothing to interrupt, only exit code and quiet to lose
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            returned = super().invoke(ctx)
        except GridrunError as error:
            if ctx.params.get("debug"):
                raise
            raise Problem(str(error)) from None
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            raise SystemExit(130) from None
        if ctx.meta.get(_TOLD):
            raise SystemExit(Problem.exit_code)
        return returned

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from trainer.registry import did_you_mean

            near = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(f"{error.message.rstrip('.')}.{near}", ctx) from None


def _is_of_output(error: OSError) -> bool:
    """Return whether an error arose where something was printed."""
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename).parent.name in ("click", "rich")


def _drop_output() -> None:
    """Send nowhere what is still buffered: Python would try again at its end, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):  # in tests there is no file behind it
            os.dup2(nowhere, stream.fileno())
