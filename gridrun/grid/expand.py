"""From a recipe to its rows: the product of the axes, and the extras."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from gridrun.errors import GridError
from gridrun.grid.product import product_rows
from gridrun.grid.rows import Choices, Recipe, Row, RowMaker, described

MAX_ROWS = 1_000_000


def expand(recipe: Recipe) -> tuple[tuple[Row, Choices], ...]:
    """Make every row, with what makes it: the product of the axes, first axis slowest, then the extras.

    Raises:
        GridError: a row cannot be trained or is made twice, a part of `base`, `exclude` or `derive`
            has no effect, or there are no rows or more than MAX_ROWS.
    """
    count = math.prod(len(layers) for layers in recipe.axes) + len(recipe.extra)
    if count > MAX_ROWS:
        raise recipe.node.error(f"asks for {count:,} rows; the most is {MAX_ROWS:,}")
    _check_base(recipe)
    maker = RowMaker(recipe)
    made: dict[str, tuple[Row, Choices]] = {}
    for row, choices in _rows(maker):
        if row.config_id in made:
            raise _twice(recipe, row, choices, *made[row.config_id])
        made[row.config_id] = row, choices
    maker.check_effects()
    if not made:
        raise recipe.node.error("every row is excluded")
    _check_published(made.values())
    return tuple(made.values())


def _rows(maker: RowMaker) -> Iterator[tuple[Row, Choices]]:
    yield from product_rows(maker)
    for layer in maker.recipe.extra:
        yield maker.row(maker.settle((layer,)), (layer,)), (layer,)


def _check_base(recipe: Recipe) -> None:
    """Refuse an option of the grid's own base that no row keeps: a lost one is a silent mistake."""
    replaced = {
        key for axis in recipe.axes for key in axis[0].values if all(key in one.values for one in axis)
    }
    for layer in recipe.base:
        for key, node in layer.entries.items():
            whole = key.split(".")[0]
            if node.file == recipe.node.file and whole != key and whole in replaced and not recipe.extra:
                raise node.error(f"has no effect: an axis replaces the whole of `{whole}`; set it there")


def _twice(recipe: Recipe, row: Row, choices: Choices, twin: Row, twin_choices: Choices) -> GridError:
    here, there = described(choices), described(twin_choices)
    problem = f"the row ({here}) is made twice: line {twin.line} ({there}) gives the same config"
    node = choices[-1].node if choices else recipe.node
    return node.error(problem + recipe.overridden)


def _check_published(made: Iterable[tuple[Row, Choices]]) -> None:
    """Refuse a published value that several rows would claim."""
    claimed: set[int] = set()
    for row, choices in made:
        for layer in choices:
            if layer.published is None:
                continue
            if id(layer) in claimed:
                raise layer.node.error(
                    f"published values are of one row, but an axis makes several of it (line {row.line});"
                    " put them under `published` of a table"
                )
            claimed.add(id(layer))
