"""The product of the axes, row by row, of parts that many rows have in common.

What the choices of an axis mean is a matter of the options that it sets, of those that `derive`
computes from them, and of what a check or an exclusion looks at together with them. Axes that nothing
of this kind brings together are independent: what one of them makes of a row is the same beside all
choices of the other. So it is settled, read and checked in one row for each choice; any other row that
has the choice takes these options from there.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from gridrun.errors import GridError
from gridrun.grid.layers import Layer
from gridrun.grid.pick import Pick
from gridrun.grid.rows import Choices, Recipe, Row, RowMaker
from gridrun.trial import config_id_of, option_texts
from trainer import TrainConfig
from trainer.checks import read_together
from trainer.schema import field_types

Indexes = tuple[int, ...]
"""Of a choice on each axis: what tells a row of the product from another."""
_ABOUT = ("name", "published", "seeds")
"""What cases say of their rows beside options."""


def product_rows(maker: RowMaker) -> Iterator[tuple[Row, Choices]]:
    """Yield the rows that are not excluded, first axis slowest, each with what makes it.

    Raises:
        GridError: of the first row that cannot be made.
    """
    groups = _groups(maker.recipe)
    if sum(group.size for group in groups) < math.prod(map(len, maker.recipe.axes)):
        try:
            parts = _parts(maker, groups)
        except GridError:  # of one of the rows; which is the first, one sees by making them in order
            pass
        else:
            yield from _assembled(maker.recipe, groups, parts)
            return
    yield from one_by_one(maker)


def one_by_one(maker: RowMaker) -> Iterator[tuple[Row, Choices]]:
    """Do what `product_rows` does, however large the product. Raises GridError."""
    picks = [pick for _, pick in maker.recipe.exclude]
    for choices in itertools.product(*maker.recipe.axes):
        settings = maker.settle(choices)
        if not maker.excludes(picks, settings, choices):
            yield maker.row(settings, choices), choices


class _Group(NamedTuple):
    """Axes that are not independent, and what depends on them."""

    axes: tuple[int, ...]
    """Their places; none in the group of all that depends on no axis."""
    fields: tuple[str, ...]
    """Of the config."""
    about: frozenset[str]
    """Of `_ABOUT`."""
    picks: tuple[Pick, ...]
    size: int
    """Number of combinations of choices."""

    @property
    def key(self) -> Callable[[Indexes], Any]:
        """Returns of a row what the group depends on."""
        return operator.itemgetter(*self.axes) if self.axes else lambda indexes: ()


class _Part(NamedTuple):
    """What one combination of a group's choices makes of all rows that have it."""

    row: Row
    """One of these."""
    options: tuple[Any, ...]
    """In the order of the group's fields."""
    texts: tuple[str, ...]
    """As `option_texts` writes them."""


_Parts = dict[Any, _Part]
"""By the group's key of a row; combinations that are excluded are left out."""


def _groups(recipe: Recipe) -> list[_Group]:
    """Return the groups of axes."""
    assert recipe.profile is None  # `reduce` makes its rows one by one
    set_by = [{fact for layer in axis for fact in _facts(layer.values)} for axis in recipe.axes]
    for about, axis in itertools.product(_ABOUT, range(len(set_by))):
        if any(getattr(layer, about) for layer in recipe.axes[axis]):
            set_by[axis].add(about)
    picks = [pick for _, pick in recipe.exclude]
    derived = [_facts((derivation.key, *derivation.names)) for derivation in recipe.derive]
    together = _united([*set_by, *derived, *(_facts(pick.allowed) for pick in picks), *read_together()])
    constant = {*field_types(TrainConfig), *_ABOUT}.difference(*together)
    for facts in [facts for facts in together if not any(facts & axis for axis in set_by)]:
        constant |= facts
        together.remove(facts)
    groups = []
    for facts in (constant, *together):
        axes = tuple(i for i, axis in enumerate(set_by) if axis & facts)
        groups.append(
            _Group(
                axes=axes,
                fields=tuple(field for field in field_types(TrainConfig) if field in facts),
                about=frozenset(facts.intersection(_ABOUT)),
                picks=tuple(pick for pick in picks if facts.issuperset(_facts(pick.allowed))),
                size=math.prod(len(recipe.axes[i]) for i in axes),
            )
        )
    return groups


def _facts(keys: Iterable[str]) -> set[str]:
    """Return the fields that dotted keys are of."""
    return {key.split(".")[0] for key in keys}


def _united(sets: Iterable[Iterable[str]]) -> list[set[str]]:
    """Return the unions of the sets that overlap, directly or through others."""
    unions: list[set[str]] = []
    for members in sets:
        union = set(members).union(*(other for other in unions if not other.isdisjoint(members)))
        unions = [*(other for other in unions if other.isdisjoint(members)), union]
    return unions


def _parts(maker: RowMaker, groups: Sequence[_Group]) -> list[_Parts]:
    """Make a row for each combination of choices of each group. Raises GridError."""
    axes = maker.recipe.axes

    def choices(indexes: Indexes) -> Choices:
        return tuple(axis[i] for axis, i in zip(axes, indexes, strict=True))

    first, kept = (0,) * len(axes), []
    for group in groups:
        kept.append(
            [
                indexes
                for indexes in _combined(axes, group, first)
                if not maker.excludes(group.picks, maker.settle(chosen := choices(indexes)), chosen)
            ]
        )
    if not all(kept):
        return [{} for _ in groups]
    for group, combinations in zip(groups, kept, strict=True):
        first = tuple(combinations[0][i] if i in group.axes else n for i, n in enumerate(first))
    parts = []
    for group, combinations in zip(groups, kept, strict=True):
        found: _Parts = {}
        for combination in combinations:
            indexes = tuple(combination[i] if i in group.axes else n for i, n in enumerate(first))
            chosen = choices(indexes)
            row = maker.row(maker.settle(chosen), chosen)
            texts = option_texts(row.config)
            found[group.key(indexes)] = _Part(
                row,
                tuple(getattr(row.config, field) for field in group.fields),
                tuple(texts[field] for field in group.fields if field in texts),
            )
        parts.append(found)
    return parts


def _combined(axes: Sequence[Sequence[Layer]], group: _Group, others: Indexes) -> Iterator[Indexes]:
    """Yield every combination of a group's choices, beside one choice of each other axis."""
    ranges = [range(len(axis)) if i in group.axes else (others[i],) for i, axis in enumerate(axes)]
    return itertools.product(*ranges)


def _assembled(
    recipe: Recipe, groups: Sequence[_Group], parts: Sequence[_Parts]
) -> Iterator[tuple[Row, Choices]]:
    """Yield the rows of the product, of whose parts none is excluded."""
    assemble = TrainConfig.assembler(field for group in groups for field in group.fields)
    name_at, published_at, seeds_at = (
        next(i for i, group in enumerate(groups) if about in group.about) for about in _ABOUT
    )
    found = [(group.key, part) for group, part in zip(groups, parts, strict=True)]
    every_index = itertools.product(*(range(len(axis)) for axis in recipe.axes))
    for indexes, choices in zip(every_index, itertools.product(*recipe.axes), strict=True):
        try:
            of_row = [part[key(indexes)] for key, part in found]
        except KeyError:  # excluded
            continue
        row = Row(
            config=assemble([option for part in of_row for option in part.options]),
            name=of_row[name_at].row.name,
            published=of_row[published_at].row.published,
            line=choices[-1].node.line,
            seeds=of_row[seeds_at].row.seeds,
        )
        # Hashing is what large grids wait for.
        vars(row)["config_id"] = config_id_of([text for part in of_row for text in part.texts])
        yield row, choices
