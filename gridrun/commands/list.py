"""`gridrun list`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import click

from gridrun.commands._options import find_grids
from gridrun.text import number_of, printable

if TYPE_CHECKING:
    from trainer.models import ModelOptions

KINDS = (
    *("models", "datasets", "augmentations", "optimizers", "parameter_groups"),
    *("schedules", "warmups", "averages", "selections"),
)
"""Packages of `trainer`, each with a registry of its own name."""


@click.command("list")
@click.argument(
    "what",
    type=click.Choice([*KINDS, "grids"]),
)
@click.option("--counts", is_flag=True, help="With models: parameters and multiply-accumulates of each.")
def command(what: str, counts: bool) -> None:
    """List the names to choose from.

    Models are shown with their default options, or as a well-known example if they need options. --counts
    shows trainable parameters, and multiply-accumulates of convolutional and linear layers for one image:
    32x32 pixels and 10 classes, or 224x224 and 1000 for an ImageNet network.
    """
    if counts and what != "models":
        raise click.UsageError("--counts goes with models")
    if what == "models":
        list_models(counts)
    elif what == "grids":
        for path, grid in find_grids().items():
            profiles = "".join(f", --profile {name}" for name in grid.profiles)
            click.echo(f"{path}{profiles}  {number_of(len(grid.trials), 'trial')}  {printable(grid.title)}")
    else:
        registry = getattr(importlib.import_module(f"trainer.{what}"), what)
        for name in registry.names():
            click.echo(f"{name:20} {_first_line(registry.get(name))}")


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
    from trainer.evaluation import on_meta
    from trainer.models.count import count_macs, count_params
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
