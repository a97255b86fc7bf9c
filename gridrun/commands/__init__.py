"""The command line: each module holds one command, called `command`, and is named after it.

This is the only package that prints. Results go to stdout, progress and errors to stderr. A command imports
what is heavier than click inside its function, so that `--help`, `plan`, `status` and `table` answer at once.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import pkgutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, cast

import click

from gridrun.commands import _process
from gridrun.commands._options import HAD_ERRORS
from gridrun.errors import GridrunError
from gridrun.text import printable_lines


class UserError(click.ClickException):
    """A mistake of the user: one message, exit 2."""

    exit_code = 2


class Commands(click.Group):
    """The group of all commands, each imported when needed. It shows errors that a user can fix."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name[0] != "_")

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        return cast(click.Command, importlib.import_module(f"{__name__}.{name}").command)

    def main(self, *arguments: Any, **options: Any) -> Any:
        gc.set_threshold(100_000, 20)  # large grids make many objects and few cycles: a fifth of their time
        _process.open_streams()
        end_with = _process.end_at_once_with_ray()
        try:
            return super().main(*arguments, **options)
        except OSError as error:  # click itself handles a closed pipe
            if not _is_from_printing(error):
                raise
            with contextlib.suppress(OSError):
                click.echo(f"Error: the output cannot be written: {error.strerror}", err=True)
            _discard_output()
            raise SystemExit(1) from None
        except SystemExit as end:
            if end.code == _process.EXIT_INTERRUPTED:
                _process.leave(_process.EXIT_INTERRUPTED)
            end_with(end.code)
            raise
        finally:  # Ctrl-C while Python exits could only spoil the exit code and print a traceback
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            _process.check_directory()
            result = super().invoke(ctx)
        except GridrunError as error:
            if ctx.params.get("debug"):
                raise
            raise UserError(printable_lines(str(error))) from None
        except click.UsageError as error:
            message = error.format_message()
            if (shown := printable_lines(message)) == message:
                raise
            raise click.UsageError(shown, error.ctx) from None
        except KeyboardInterrupt:
            _process.ignore_signals()
            click.echo("Interrupted.", err=True)
            raise SystemExit(_process.EXIT_INTERRUPTED) from None
        if ctx.meta.get(HAD_ERRORS):
            raise SystemExit(UserError.exit_code)
        return result

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from trainer.registry import did_you_mean

            hint = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(f"{error.message.rstrip('.')}.{hint}", ctx) from None


def _is_from_printing(error: OSError) -> bool:
    """Return whether click or rich raised an error, and so could not print."""
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename).parent.name in ("click", "rich")


def _discard_output() -> None:
    """Send buffered output to /dev/null. Python would try to write it again when it exits, and complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):  # in tests there is no file behind a stream
            os.dup2(null, stream.fileno())
