"""Reduced studies: every row made again under a profile, and the study's tables and figures over these rows.

The grid file is always read in full first. So `where`, `exclude` and `published` refer to the rows of the
study, and a mistake in the file shows under every profile.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from gridrun.errors import GridError
from gridrun.grid.plot_specs import PlotSpec
from gridrun.grid.profiles import Profile
from gridrun.grid.rows import Choices, Recipe, Row, RowMaker, choices_text, node_of
from gridrun.grid.table_specs import TableSpec
from trainer import TrainConfig

SpecT = TypeVar("SpecT", TableSpec, PlotSpec)

Reduction = Mapping[str, Row]
"""The reduced row of each row that the profile keeps, by the `config_id` of the study's row."""


def reduce(recipe: Recipe, profile: Profile, made: Sequence[tuple[Row, Choices]]) -> Reduction:
    """Make the reduced rows, given those of the study with the choices that made them.

    Raises:
        GridError: a row cannot be trained under the profile, becomes equal to another one, or equals a row
            of the study; `exclude` picks no row, or every row.
    """
    maker = RowMaker(dataclasses.replace(recipe, profile=profile))
    study = {row.config for row, _ in made}
    found: dict[TrainConfig, Choices] = {}
    reduction: dict[str, Row] = {}
    for row, choices in _kept(recipe, profile, made):
        node = node_of(recipe, choices)
        advice = f"{profile.under}; a profile may `exclude` such rows"
        try:
            new = maker.row(choices, maker.settings(choices))
        except GridError as error:
            raise GridError(error.path, error.line, error.key, f"{error.problem}, {advice}") from None
        if new.config in study:
            raise node.error(f"the row ({choices_text(choices)}) is also a row of the full study, {advice}")
        if new.config in found:
            twin = choices_text(found[new.config])
            raise node.error(f"the row ({choices_text(choices)}) becomes the same as ({twin}), {advice}")
        found[new.config] = choices
        name = row.name and row.name.replace(row.config.model.label, new.config.model.label)
        seeds = profile.seeds or row.seeds
        reduction[row.config_id] = dataclasses.replace(new, name=name, published=None, seeds=seeds)
    return reduction


def _kept(recipe: Recipe, profile: Profile, made: Iterable[tuple[Row, Choices]]) -> list[tuple[Row, Choices]]:
    """Return the rows of the study that the profile does not exclude."""
    unmatched = {id(pick): node for node, pick in profile.exclude if node.file == recipe.node.file}
    kept = []
    for row, choices in made:
        hits = [id(pick) for _, pick in profile.exclude if pick.matches(row.option)]
        if not hits:
            kept.append((row, choices))
        for hit in hits:
            unmatched.pop(hit, None)
    for node in unmatched.values():
        raise node.error("matches no row")
    if not kept:
        raise recipe.node.error(f"every row is excluded, {profile.under}")
    return kept


def reduced_specs(specs: Iterable[SpecT], profile: Profile, reduction: Reduction) -> tuple[SpecT, ...]:
    """Return the tables or figures that have rows left, without published values: the study's have those."""
    found = []
    for spec in specs:
        if rows := tuple(reduction[row.config_id] for row in spec.rows if row.config_id in reduction):
            name, title = f"{spec.id}_{profile.name}", reduced_title(spec.title, profile, rows)
            if isinstance(spec, TableSpec):
                columns = tuple(column for column in spec.columns if column != "paper")
                spec = dataclasses.replace(spec, columns=columns, reported=())
            found.append(dataclasses.replace(spec, id=name, title=title, rows=rows, published={}))
    return tuple(found)


def reduced_title(title: str, profile: Profile, rows: Sequence[Row]) -> str:
    """Return the title with the profile's effect: `... (reduced: 10 epochs, 4,000 images of CIFAR-10)`."""
    configs = [row.config for row in rows]
    epochs = _count_range("epoch", [config.epochs for config in configs])
    images = _count_range("image", [config.num_train for config in configs])
    datasets = ", ".join(dict.fromkeys(config.dataset.label for config in configs))
    return f"{title} ({profile.name}: {epochs}, {images} of {datasets})"


def _count_range(noun: str, numbers: Sequence[float]) -> str:
    """Write `10 epochs`, or `10 to 20 epochs`."""
    low, high = min(numbers), max(numbers)
    count = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{count} {noun}" if high == 1 else f"{count} {noun}s"
