"""Rows made anew: every row of a study again, under a profile and with the settings of the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from gridrun.errors import GridError
from gridrun.grid.profiles import Profile
from gridrun.grid.rows import Choices, Recipe, Row, RowMaker, check_let, choices_text, node_of
from trainer import TrainConfig

Reduction = Mapping[str, Row]
"""The new row of each row that is kept, by the `config_id` of the study's row."""


def reduce(recipe: Recipe, made: Sequence[tuple[Row, Choices]]) -> Reduction:
    """Make the rows of a recipe with a profile or overrides.

    Args:
        recipe: the study's, with the profile, the overrides or both.
        made: the study's rows, with the choices that made each.

    Raises:
        GridError: a row cannot be trained so, becomes equal to another one, or under a profile equals a row
            of the study; the profile's `exclude` picks no row, or every row.
    """
    check_let(recipe)
    maker, profile = RowMaker(recipe), recipe.profile
    study = {row.config for row, _ in made} if profile else set()
    advice = f", {profile.under}; a profile may `exclude` such rows" if profile else recipe.overridden
    found: dict[TrainConfig, Choices] = {}
    reduction: dict[str, Row] = {}
    for row, choices in _kept(recipe, profile, made) if profile else made:
        node = node_of(recipe, choices)
        try:
            new = maker.row(choices, maker.settings(choices))
        except GridError as error:
            told = "" if str(error.path) == "--set" and not profile else advice  # it says so already
            raise GridError(error.path, error.line, error.key, f"{error.problem}{told}") from None
        if new.config in study:
            raise node.error(f"the row ({choices_text(choices)}) is also a row of the full study{advice}")
        if new.config in found:
            twin = choices_text(found[new.config])
            raise node.error(f"the row ({choices_text(choices)}) becomes the same as ({twin}){advice}")
        found[new.config] = choices
        unchanged = new.config == row.config
        name = row.name and row.name.replace(row.config.model.label, new.config.model.label)
        seeds = (profile and profile.seeds) or row.seeds
        published = row.published if unchanged else None
        reduction[row.config_id] = dataclasses.replace(new, name=name, published=published, seeds=seeds)
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


def reduced_rows(profile: Profile, rows: Sequence[Row]) -> str:
    """Say what a profile has made of some rows: `reduced: 10 epochs, 4,000 images of CIFAR-10`."""
    configs = [row.config for row in rows]
    epochs = _count_range("epoch", [config.epochs for config in configs])
    images = _count_range("image", [config.num_train for config in configs])
    datasets = ", ".join(dict.fromkeys(config.dataset.label for config in configs))
    return f"{profile.name}: {epochs}, {images} of {datasets}"


def _count_range(noun: str, numbers: Sequence[float]) -> str:
    """Write `10 epochs`, or `10 to 20 epochs`."""
    low, high = min(numbers), max(numbers)
    count = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{count} {noun}" if high == 1 else f"{count} {noun}s"
