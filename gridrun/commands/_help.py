"""What `--help` shows, and what a shell completes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from gridrun.grid import Grid

GROUPS = {
    "Which trials": (
        *("profile", "scale", "settings", "seeds", "where"),
        *("only", "again", "retry", "failed", "diverged"),
    ),
    "Results, data and checkpoints": ("results", "data", "checkpoints", "keep", "checkpoint_seconds"),
    "Where trials run": (
        "executor",
        "cpus",
        "gpus",
        "gpus_per_trial",
        "cpus_per_trial",
        "address",
        "compile",
    ),
    "When to stop": ("budget_hours", "retries", "stop_after_failures"),
    "Who is told": ("notify", "mlflow", "wandb", "tensorboard", "tag"),
}
"""Headings of `--help`, and the options below each; all others stand under `Options`."""


class GroupedCommand(click.Command):
    """A command whose `--help` shows its options in groups, and an example at the end."""

    def __init__(self, *arguments: Any, example: str = "", needs: str = "", **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.example = example
        self.needs = needs  # what the example needs beside a clone, said in docs/reference.md
        for param in self.params:
            if param.metavar is None and isinstance(param.type, (click.IntRange, click.FloatRange)):
                param.metavar = "N"  # for INTEGER RANGE

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example"):
            formatter.write(f"  {self.example}\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        heading_of = {name: heading for heading, names in GROUPS.items() for name in names}
        found: dict[str, list[tuple[str, str]]] = {heading: [] for heading in (*GROUPS, "Options")}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record:
                found[heading_of.get(param.name or "", "Options")].append(record)
        for heading, records in found.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def complete_profile(context: click.Context, _: click.Parameter, text: str) -> list[CompletionItem]:
    """Return the profiles of the named grids, else of every `grids/*.yaml`."""
    grids = _grids(_named(context) or sorted(Path("grids").glob("[!.]*.yaml")))
    names = {name for grid in grids for name in grid.profiles}
    return _starting_with(text, sorted(names))


def complete_setting(_: click.Context, __: click.Parameter, text: str) -> list[CompletionItem]:
    """Return the keys of `--set` and `train`, each with its `=`: `lr=`, `model.depth=`."""
    from trainer import TrainConfig
    from trainer.schema import field_types, mapped_registry, registry_of, without_none

    keys = set()
    for name, hint in field_types(TrainConfig).items():
        keys.add(f"{name}=")
        if registry := registry_of(without_none(hint)):
            classes = (registry.get(known) for known in registry.names())
            keys.update(f"{name}.{option}=" for cls in classes for option in field_types(cls))
        elif registry := mapped_registry(hint):
            keys.update(f"{name}.{known}=" for known in registry.names())
            for known in registry.names():
                keys.update(f"{name}.{known}.{option}=" for option in field_types(registry.get(known)))
    return _starting_with(text, sorted(keys))


def complete_id(context: click.Context, _: click.Parameter, text: str) -> list[CompletionItem]:
    """Return the ids of ended trials in the results directory."""
    from gridrun.errors import GridrunError
    from gridrun.store import Store

    with contextlib.suppress(GridrunError):
        return _starting_with(text, sorted(Store(_results(context)).statuses()))
    return []


def complete_planned_id(context: click.Context, _: click.Parameter, text: str) -> list[CompletionItem]:
    """Return the ids of the trials of the named grids."""
    ids = {trial.trial_id for grid in _grids(_named(context)) for trial in grid.trials}
    return _starting_with(text, sorted(ids))


def _named(context: click.Context) -> list[Path]:
    """Return the grid files typed so far. Before an option has its value, click leaves them in `args`."""
    return list(context.params.get("paths") or map(Path, context.args))


def _grids(paths: Iterable[Path]) -> Iterator[Grid]:
    """Load those of some grid files that are sound."""
    from gridrun.errors import GridrunError
    from gridrun.grid import load_grid

    for path in paths:
        with contextlib.suppress(GridrunError):
            yield load_grid(path)


def _results(context: click.Context) -> Any:
    return context.params.get("results") or "results"


def _starting_with(text: str, names: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(text)]
