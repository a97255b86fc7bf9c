"""Reduced forms: each row of a study made anew under a profile, and the study's tables over these rows.

A grid file is read whole as it stands first, so that its `where`, `exclude` and `published` mean what they
say, and a mistake in it shows under every profile.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gridrun.errors import GridError
from gridrun.grid.plot_specs import PlotSpec
from gridrun.grid.profiles import Profile
from gridrun.grid.rows import Choices, Recipe, Row, RowMaker, choices_text, node_of
from gridrun.grid.table_specs import TableSpec, value_of
from trainer import TrainConfig

Reduction = Mapping[str, Row]
"""The reduced form of each row that the profile keeps, by the `config_id` of the row of the study."""


def reduce(recipe: Recipe, profile: Profile, made: Sequence[tuple[Row, Choices]]) -> Reduction:
    """Make the reduced rows.

    Args:
        recipe: of the study.
        profile: what reduces it.
        made: the rows of the study, and what makes them.

    Raises:
        GridError: a row cannot be trained under the profile, becomes another's equal or stays one of the
            study's; `exclude` picks nothing, or everything.
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
            raise node.error(f"the row ({choices_text(choices)}) is one of the full study's too, {advice}")
        if new.config in found:
            twin = choices_text(found[new.config])
            raise node.error(f"the row ({choices_text(choices)}) comes to the same as ({twin}), {advice}")
        found[new.config] = choices
        reduction[row.config_id] = dataclasses.replace(
            new, name=_name(row, new), published=None, seeds=profile.seeds or row.seeds
        )
    return reduction


def _kept(
    recipe: Recipe, profile: Profile, made: Iterable[tuple[Row, Choices]]
) -> Iterable[tuple[Row, Choices]]:
    """Return the rows of the study that the profile does not exclude."""
    unmatched = {id(pick): node for node, pick in profile.exclude if node.file == recipe.node.file}
    kept = []
    for row, choices in made:
        hits = [pick for _, pick in profile.exclude if pick.matches(functools.partial(value_of, row))]
        for pick in hits:
            unmatched.pop(id(pick), None)
        if not hits:
            kept.append((row, choices))
    for node in unmatched.values():
        raise node.error("matches no row")
    if not kept:
        raise recipe.node.error(f"every row is excluded, {profile.under}")
    return kept


def _name(row: Row, new: Row) -> str | None:
    """Return the row's name; one that says the study's model says the reduced row's instead."""
    return row.name and row.name.replace(row.config.model.label, new.config.model.label)


def reduced_tables(
    tables: Iterable[TableSpec], profile: Profile, reduction: Reduction
) -> Iterator[TableSpec]:
    """Yield those tables of which rows are left: without what is published, for it does not compare."""
    for table in tables:
        if rows := tuple(reduction[row.config_id] for row in table.rows if row.config_id in reduction):
            yield dataclasses.replace(
                table,
                id=f"{table.id}_{profile.name}",
                title=reduced_title(table.title, profile, rows),
                rows=rows,
                columns=tuple(column for column in table.columns if column != "paper"),
                published={},
                reported=(),
            )


def reduced_plots(plots: Iterable[PlotSpec], profile: Profile, reduction: Reduction) -> Iterator[PlotSpec]:
    """Yield those figures of which rows are left, likewise."""
    for plot in plots:
        if rows := tuple(reduction[row.config_id] for row in plot.rows if row.config_id in reduction):
            yield dataclasses.replace(
                plot,
                id=f"{plot.id}_{profile.name}",
                title=reduced_title(plot.title, profile, rows),
                rows=rows,
                published={},
            )


def reduced_title(title: str, profile: Profile, rows: Sequence[Row]) -> str:
    """Return the title with the profile and what it comes to: `... (reduced: 10 epochs, 4,000 images)`."""
    configs = [row.config for row in rows]
    epochs = _counted("epoch", [config.epochs for config in configs])
    images = _counted("image", [config.num_train for config in configs])
    datasets = ", ".join(dict.fromkeys(config.dataset.label for config in configs))
    return f"{title} ({profile.name}: {epochs}, {images} of {datasets})"


def _counted(noun: str, numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    count = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{count} {noun}" if high == 1 else f"{count} {noun}s"
