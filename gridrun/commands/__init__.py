"""The command line, one command a file: its module's name is the command's, its `command` the click command.

The only package that prints. Results go to stdout, progress and errors to stderr. Everything
heavier than click is imported by the command that needs it, so that `--help`, `plan`, `status`
and `table` answer at once.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import click

from gridrun.errors import GridrunError


class Problem(click.ClickException):
    """A user's mistake: one message, exit 2."""

    exit_code = 2


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

            near = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(f"{error.message.rstrip('.')}.{near}", ctx) from None
