"""Rows: the distinct configs that a grid file asks for, and how one is made."""

from __future__ import annotations

import functools
import itertools
import json
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gridrun.errors import GridError
from gridrun.grid.derive import Derivation
from gridrun.grid.layers import Layer
from gridrun.grid.pick import Pick
from gridrun.grid.profiles import Profile
from gridrun.grid.published import Published
from gridrun.grid.settings import ConfigReader, Settings, option
from gridrun.grid.yaml import Node
from gridrun.trial import Trial, config_id, config_id_of, option_texts, trial_id_of
from trainer import ConfigError, TrainConfig
from trainer.checks import read_together
from trainer.schema import field_types

Choices = tuple[Layer, ...]
"""What makes one row: a choice of each axis, or one `extra`."""


@dataclass(frozen=True)
class Row:
    """One config of a grid, and the seeds to run it with: a row of its tables."""

    config: TrainConfig
    name: str | None = None
    """Of the case that made it."""
    published: Published | None = None
    line: int = 0
    seeds: tuple[int, ...] = (0,)
    """It is run once with each."""

    @functools.cached_property
    def config_id(self) -> str:
        """Id shared by all trials of the row."""
        return config_id(self.config)

    @functools.cached_property
    def trial_ids(self) -> tuple[str, ...]:
        """One a seed."""
        return tuple([trial_id_of(self.config_id, seed) for seed in self.seeds])

    @functools.cached_property
    def trials(self) -> tuple[Trial, ...]:
        """One a seed."""
        trials = tuple([Trial(self.config, seed) for seed in self.seeds])
        for trial, trial_id in zip(trials, self.trial_ids, strict=True):
            # Cached properties there too: hashing is what large grids wait for.
            vars(trial).update(config_id=self.config_id, trial_id=trial_id)
        return trials


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """All that is said of a grid's rows. Later settings win: base, axes, profile, overrides."""

    node: Node
    """The file as a whole."""
    base: Sequence[Layer] = ()
    """Of included files first."""
    axes: Sequence[Sequence[Layer]] = ()
    exclude: Sequence[tuple[Node, Pick]] = ()
    extra: Sequence[Layer] = ()
    overrides: Layer | None = None
    seeds: tuple[int, ...] = (0,)
    """Of rows whose choices say none."""
    derive: Sequence[Derivation] = ()
    """In order; each only where the row's own layers leave the option alone."""
    profile: Profile | None = None
    """What reduces every row."""

    def own(self, choices: Choices) -> Choices:
        """Return the layers of a row over the base: its choices, the profile's, the overrides."""
        layers = (*choices, *self.profile.layers) if self.profile else choices
        return (*layers, self.overrides) if self.overrides else layers

    @property
    def overridden(self) -> str:
        """What an error message says of the overrides."""
        return f", with --set {', '.join(self.overrides.entries)}" if self.overrides else ""


def base_settings(recipe: Recipe) -> Settings:
    """Return what every row begins with. Raises GridError."""
    base: Settings = {}
    for layer in recipe.base:
        layer.apply(base)
    return base


def settle(recipe: Recipe, base: Settings, choices: Choices) -> Settings:
    """Return the settings of a row: its own layers over the base, scaled, and the rest derived.

    Raises:
        GridError: a layer changes what is not there, or an option cannot be computed.
    """
    settings, own = dict(base), recipe.own(choices)
    for layer in own:
        layer.apply(settings)
    derive = [
        derivation
        for derivation in recipe.derive
        if derivation.applies_to(settings) and not any(layer.sets(derivation.key) for layer in own)
    ]
    if recipe.profile:
        recipe.profile.scale_epochs(settings, but_not={derivation.key for derivation in derive})
    for derivation in derive:
        derivation.apply(settings)
    return settings


def make_row(recipe: Recipe, reader: ConfigReader, settings: Settings, choices: Choices) -> Row:
    """Read the settings of a row. Raises GridError: it cannot be trained."""
    line = choices[-1].node.line if choices else recipe.node.line
    try:
        config = reader.read(settings)
    except ConfigError as error:
        raise _located(recipe, choices, line, error) from None
    published = next((layer.published for layer in choices if layer.published), None)
    seeds = next((layer.seeds for layer in reversed(choices) if layer.seeds), recipe.seeds)
    return Row(config, name_of(choices), published, line, seeds)


class RowMaker:
    """Makes the rows of a recipe one by one, and notes which of its parts have had an effect."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._base = base_settings(recipe)
        self._reader = ConfigReader()
        self._idle = {derivation.key: derivation for derivation in recipe.derive}
        self._unmatched = {id(pick): node for node, pick in recipe.exclude}

    def settle(self, choices: Choices) -> Settings:
        """Do what `settle` does."""
        settings = settle(self.recipe, self._base, choices)
        for key in [key for key, derivation in self._idle.items() if derivation.applies_to(settings)]:
            self._idle.pop(key)
        return settings

    def excludes(self, picks: Iterable[Pick], settings: Settings, choices: Choices) -> bool:
        """Tell whether some of the recipe's exclusions are of a row with these settings."""
        hits = [pick for pick in picks if _matches(pick, settings, choices)]
        for pick in hits:
            self._unmatched.pop(id(pick), None)
        return bool(hits)

    def row(self, settings: Settings, choices: Choices) -> Row:
        """Do what `make_row` does."""
        return make_row(self.recipe, self._reader, settings, choices)

    def check_effects(self) -> None:
        """Raise GridError if an exclusion or a derivation has had no effect on any row."""
        for node in self._unmatched.values():
            raise node.error(f"matches no row{self.recipe.overridden}")
        for derivation in self._idle.values():
            raise derivation.node.error("no row has this option")


def _matches(pick: Pick, settings: Settings, choices: Choices) -> bool:
    return pick.matches(lambda key: name_of(choices) if key == "name" else option(settings, key))


def _located(recipe: Recipe, choices: Choices, line: int, error: ConfigError) -> GridError:
    """Return the error at the setting that is to blame for it."""
    own = recipe.own(choices)
    for derivation in recipe.derive:
        if derivation.key == error.key and not any(layer.sets(error.key) for layer in own):
            return derivation.node.error(error.problem)
    for layer in reversed((*recipe.base, *own)):
        if node := layer.find(error.key):
            return node.error(error.problem)
    return GridError(recipe.node.file, line, error.key, error.problem)


def name_of(choices: Choices) -> str | None:
    """Return the names of the cases that make a row."""
    return ", ".join(layer.name for layer in choices if layer.name) or None


def described(choices: Choices) -> str:
    """Return what makes a row, in words."""
    said = [
        f"{key}: {value if isinstance(value, str) else json.dumps(value, default=str)}"
        for layer in choices
        for key, value in layer.values.items()
    ]
    return ", ".join(said) or "base"


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
