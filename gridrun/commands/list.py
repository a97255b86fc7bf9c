"""`gridrun list`."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import HAD_ERRORS, find_grids
from gridrun.errors import GridrunError
from gridrun.text import number_of, printable

if TYPE_CHECKING:
    from trainer.models import ModelOptions
    from trainer.reference import Option
    from trainer.registry import Registry

KINDS = (
    *("models", "datasets", "augmentations", "optimizers", "parameter_groups"),
    *("schedules", "warmups", "averages", "selections", "initial_weights"),
)
"""Packages of `trainer`, each with a registry of its own name."""


def registry_named(kind: str) -> Registry[Any]:
    """Return the registry of one of KINDS."""
    registry: Registry[Any] = getattr(importlib.import_module(f"trainer.{kind}"), kind)
    return registry


def complete_name(context: click.Context, _: click.Parameter, text: str) -> list[CompletionItem]:
    """Return the names of the kind that was typed before, for the shell."""
    kind = context.params.get("what")
    if kind == "options":
        from trainer import TrainConfig
        from trainer.schema import field_types

        names = list(field_types(TrainConfig))
    else:
        names = registry_named(kind).names() if kind in KINDS else []
    return [CompletionItem(name) for name in names if name.startswith(text)]


@click.command("list", cls=GroupedCommand, example="gridrun list models resnet_preact")
@click.argument("what", metavar="WHAT", type=click.Choice([*KINDS, "options", "reference", "grids"]))
@click.argument("name", required=False, shell_complete=complete_name)
@click.option("--counts", is_flag=True, help="With models: parameters and multiply-accumulates of each.")
@click.option(
    "--markdown", is_flag=True, help="With options: print docs/options.md; with reference: docs/reference.md."
)
def command(what: str, name: str | None, counts: bool, markdown: bool) -> None:
    """List the names to choose from, or the options of one of them.

    WHAT is one of models, datasets, augmentations, optimizers, parameter_groups, schedules, warmups,
    averages, selections, initial_weights, options, reference and grids.

    `gridrun list options` shows the options of every trial: type, default, meaning. For each name of another
    kind it also shows the paper and the file that it is from.

    Models are shown with their default options, or as a well-known example if they need options. --counts
    shows trainable parameters, and multiply-accumulates of convolutional and linear layers for one image:
    32x32 pixels and 10 classes, or 224x224 and 1000 for an ImageNet network.
    """
    if counts and (what != "models" or name):
        raise click.UsageError("--counts goes with models, without a NAME")
    if markdown and (what not in ("options", "reference") or name):
        raise click.UsageError("--markdown goes with options or reference, without a NAME")
    if name and what == "grids":
        raise click.UsageError("grids have no NAME; `gridrun plan GRID` shows one")
    if what == "reference":
        from gridrun.commands._reference import reference

        context = click.get_current_context().find_root()
        assert isinstance(context.command, click.Group)
        click.echo(reference(context.command, context), nl=False)
    elif markdown:
        click.echo(reference_as_markdown(), nl=False)
    elif what == "options":
        show_config_options(name)
    elif name:
        show_options_of(what, name)
    elif what == "models":
        list_models(counts)
    elif what == "grids":
        for path, grid in find_grids().items():
            profiles = "".join(f", --profile {name}" for name in grid.profiles)
            size = "a search" if grid.search else number_of(len(grid.trials), "trial")
            click.echo(f"{path}{profiles}  {size}  {printable(grid.title)}")
    else:
        registry = registry_named(what)
        for known in registry.names():
            click.echo(f"{known:20} {_first_line(registry.get(known))}")
    for problem in registry_named(what).broken if what in KINDS else ():
        click.echo(f"Error: {problem}", err=True)
        click.get_current_context().meta[HAD_ERRORS] = True


def show_config_options(name: str | None) -> None:
    """Print the options of every trial, or one of them."""
    from trainer import TrainConfig
    from trainer.reference import options_of
    from trainer.registry import did_you_mean

    options = options_of(TrainConfig)
    if name and name not in {option.name for option in options}:
        known = [option.name for option in options]
        raise GridrunError(f"unknown option {name!r}.{did_you_mean(name, known)}")
    _show(option for option in options if name in (None, option.name))


def show_options_of(what: str, name: str) -> None:
    """Print what one registered name is, and its options."""
    from trainer.reference import about, file_of, options_of, source_of

    try:
        cls = registry_named(what).get(name)
    except ValueError as error:
        raise GridrunError(str(error)) from None
    click.echo(f"{name}: {about(cls)}\n\n{source_of(cls)}\nDefined in {file_of(cls)}.\n")
    _show(options_of(cls))


def _show(options: Iterable[Option]) -> None:
    width = min(shutil.get_terminal_size().columns, 100)
    indent = " " * 4
    shown = []
    for option in options:
        default = option.default_in_words if option.required else f"default {option.default_in_words}"
        head = f"{option.name}  {option.type}; {default}"
        body = click.wrap_text(option.meaning, width, initial_indent=indent, subsequent_indent=indent)
        shown.append(f"{head}\n{body}")
    click.echo("\n".join(shown) or "It has no options.")


def reference_as_markdown() -> str:
    """Return the options of every trial and of all kinds, as docs/options.md has them."""
    from trainer import TrainConfig
    from trainer.reference import about, file_of, options_of, source_of

    parts = [
        "# Options\n",
        "Every option of a trial, as it is written under `base`, `axes` and `--set`; None is `null` in YAML.",
        "`gridrun list options` prints the first table, `gridrun list models resnet_preact` those of one.\n",
        "This page is made from the code: `gridrun list options --markdown > docs/options.md`.\n",
        "## Every trial\n",
        _as_table(options_of(TrainConfig)),
    ]
    for kind in KINDS:
        registry = registry_named(kind)
        parts.append(f"\n## {kind.replace('_', ' ').capitalize()}\n")
        for name in registry.names():
            cls = registry.get(name)
            source = f"[{source_of(cls).rstrip('.')}](../{file_of(cls)})."
            parts += [f"### {name}\n", f"{about(cls)}\n", f"{source}\n"]
            if options := options_of(cls):
                parts.append(f"{_as_table(options)}\n")
    return "\n".join(parts).rstrip("\n") + "\n"


def _as_table(options: Iterable[Option]) -> str:
    rows = [("option", "type", "default", "meaning"), ("---",) * 4]
    rows += [(f"`{o.name}`", o.type, o.default_in_words, o.meaning) for o in options]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _first_line(described: object) -> str:
    return (described.__doc__ or "").partition("\n")[0]


def list_models(counts: bool) -> None:
    """Print every model family. Imports torch for `counts`."""
    from trainer.models import models

    if counts:
        click.echo(f"{'name':24} {'model':44} {'parameters':>12} {'MACs':>15}  image")
    for name in models.names():
        family = models.get(name)
        example = example_of(family)
        size = format_size(example) if counts and example else ""
        about = size if counts else _first_line(family)
        click.echo(f"{name:24} {example.label if example else '':44} {about}".rstrip())


def example_of(family: type[ModelOptions]) -> ModelOptions | None:
    """Return a family's default network, else a well-known one; None if neither suits the family."""
    from trainer.schema import ConfigError, read

    for options in ({}, {"depth": 20}, {"arch": "resnet50"}):
        try:
            return read(family, options)
        except ConfigError:
            continue
    return None


def format_size(options: ModelOptions) -> str:
    """Return parameters, multiply-accumulates and the image size that they are for."""
    from trainer.datasets import DataSpec
    from trainer.models.count import count_macs, count_params, on_meta
    from trainer.schema import ConfigError

    for size, classes in ((32, 10), (224, 1000)):
        grey = (0.5, 0.5, 0.5)
        spec = DataSpec(
            num_classes=classes, channels=3, image_size=size, num_train=1, num_test=1, mean=grey, std=grey
        )
        try:
            options.check(spec)
        except ConfigError:
            continue
        network = on_meta(options, spec)
        return f"{count_params(network):12,} {count_macs(network, spec):15,}  {size}x{size}x3"
    return ""
