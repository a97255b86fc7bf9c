"""`gridrun list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gridrun.commands._grids import grids_here
from gridrun.commands._show import printable
from gridrun.text import number_of

if TYPE_CHECKING:
    from trainer.models import ModelOptions


@click.command("list")
@click.argument(
    "what",
    type=click.Choice(["models", "datasets", "augmentations", "optimizers", "schedules", "warmups", "grids"]),
)
@click.option("--counts", is_flag=True, help="With models: how large each is, and how much it computes.")
def command(what: str, counts: bool) -> None:
    """List what there is to choose from.

    A model stands there with its default options or, where some are required, as a well-known
    example. Counted are trainable parameters, and multiply-accumulates of the convolutional and
    linear layers for one image: of 32x32 pixels and 10 classes or, of an ImageNet network, of
    224x224 and 1000.
    """
    if counts and what != "models":
        raise click.UsageError("--counts goes with models")
    if what == "models":
        list_models(counts)
        return
    if what == "grids":
        list_grids()
        return
    import importlib

    registry = getattr(importlib.import_module(f"trainer.{what}"), what)
    for name in registry.names():
        options = registry.get(name)
        about = next(iter((options.__doc__ or "").splitlines()), "")
        click.echo(f"{name:20} {about}")


def list_grids() -> None:
    """Print every grid of this directory."""
    for path, grid in grids_here().items():
        forms = "".join(f", --profile {name}" for name in grid.profiles)
        click.echo(f"{path}{forms}  {number_of(len(grid.trials), 'trial')}  {printable(grid.title)}")


def list_models(counts: bool) -> None:
    """Print every model family; with `counts`, import torch."""
    from trainer.models import models

    if counts:
        click.echo(f"{'name':24} {'model':44} {'parameters':>12} {'MACs':>15}  image")
    for name in models.names():
        family = models.get(name)
        example = example_of(family)
        if counts:
            about = counted_model(example) if example else ""
        else:
            about = next(iter((family.__doc__ or "").splitlines()), "")
        click.echo(f"{name:24} {example.label if example else '':44} {about}".rstrip())


def example_of(family: type[ModelOptions]) -> ModelOptions | None:
    """Return a family's default network, else a well-known one; None of a family unheard of."""
    from trainer.schema import ConfigError, read

    for options in ({}, {"depth": 20}, {"arch": "resnet50"}):
        try:
            return read(family, options)
        except ConfigError:
            continue
    return None


def counted_model(options: ModelOptions) -> str:
    """Return parameters, MACs and the image they are of."""
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
